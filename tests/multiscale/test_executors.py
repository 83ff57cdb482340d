"""Tasks spread over processes give what they give in one."""

import os
import time

import pytest

from multiscale.executors import THREADS, local, spread


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
