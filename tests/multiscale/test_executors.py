"""Tasks spread over processes give what they give in one."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from multiscale.executors import THREADS, local, spread

ROOT = Path(__file__).parents[2]


def square(number, progress):
    if number < 0:
        raise ValueError(f"{number} is negative")
    for done in (1, 2):
        progress(done, 2, f"squaring {number}")
    return number**2, os.getpid(), os.environ.get("OMP_NUM_THREADS")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_progress_ends_full(workers):
    seen = []
    before = {name: os.environ.get(name) for name in THREADS}
    results = spread(
        square,
        [(1,), (2,), (3,)],
        workers=workers,
        progress=lambda done, total, text: seen.append((done, total)),
    )
    assert [result[0] for result in results] == [1, 4, 9]
    assert seen[-1] == (3000, 3000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    elsewhere = {result[1] for result in results} != {os.getpid()}
    assert elsewhere == (workers > 1)
    if workers > 1:
        assert {result[2] for result in results} == {"1"}
    assert {name: os.environ.get(name) for name in THREADS} == before


def test_an_error_in_a_worker_arrives():
    with pytest.raises(ValueError, match="-2 is negative"):
        spread(square, [(1,), (-2,), (3,)], workers=2)


def patient(number, progress):
    if number < 0:
        raise ValueError(f"{number} is negative")
    for done in range(1, 601):
        time.sleep(0.1)
        progress(done, 600, "waiting")
    return number


def test_when_one_fails_the_others_stop():
    started = time.perf_counter()
    with pytest.raises(ValueError, match="-1 is negative"):
        spread(patient, [(1,), (-1,), (2,)], workers=2)
    assert time.perf_counter() - started < 30


def where(number):
    return number, os.getpid(), os.environ.get("OMP_NUM_THREADS")


def test_local_processes_have_one_thread_each_and_leave_no_trace():
    before = {name: os.environ.get(name) for name in THREADS}
    with local(2) as pool:
        found = list(pool.map(where, range(4)))
    assert [one[0] for one in found] == [0, 1, 2, 3]
    assert os.getpid() not in {one[1] for one in found}
    assert {one[2] for one in found} == {"1"}
    assert {name: os.environ.get(name) for name in THREADS} == before
    with pytest.raises(ValueError, match="There are 0 workers; give at least 1"), local(0):
        pass


SPREAD = """
from multiscale.executors import spread

def task(number, tell):
    return 2 * number

{guard}
    print(spread(task, [(1,), (2,)], workers=2))
"""
LOCAL = """
from multiscale.executors import local

{guard}
    with local(1) as pool:
        print([pool.submit(abs, -2).result(), 4])
"""


@pytest.mark.parametrize("script", [SPREAD, LOCAL])
def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path, script):
    """New processes read the script again, and would start processes of their own."""
    place = tmp_path / "script.py"

    def run(guard):
        place.write_text(script.format(guard=guard))
        return subprocess.run(
            [sys.executable, place], capture_output=True, text=True, check=False, cwd=ROOT
        )

    told = run("if True:")
    assert told.returncode == 1
    # Python's resource tracker is a process of its own, and may warn of the pool's locks last
    said = [line for line in told.stderr.splitlines() if "resource_tracker" not in line]
    assert "put them there, since every worker reads" in said[-1]
    assert run("if __name__ == '__main__':").stdout.strip() == "[2, 4]"
