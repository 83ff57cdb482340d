"""Independent tasks in worker processes, with one progress bar for all of them."""

from __future__ import annotations

import multiprocessing
import os
import queue
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Progress = Callable[[int, int, str], None]

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ENDED = (
    "A worker process ended before its work did. Either it was killed, perhaps for want of memory, "
    "or a script was run whose calls do not stand under if __name__ == '__main__': put them there, "
    "since every worker reads the script again, or use one worker."
)
_messages: Any = None
_stop: Any = None


def spread(
    task: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    progress: Progress | None = None,
) -> list[Any]:
    """Run ``task(*arguments, progress)`` for each tuple; results in the order of the tuples.

    With one worker everything runs here. Otherwise each worker is a fresh process with one thread
    for each of its numerical libraries, so that the workers do not fight for cores.

    Parameters
    ----------
    task : callable
        A module's function; its last argument is a callable (done, total, text).
    arguments : sequence of tuple
        One tuple for each call, of values that can be pickled.
    workers : int
        Number of processes.
    progress : callable, optional
        Called with (done, total, text) summed over the tasks; a task counts 1000.

    Raises
    ------
    RuntimeError
        If a worker ended before its work did. What a task raises is raised here.
    """
    shares, said = [0] * len(arguments), ""

    def report(index: int, done: int, total: int, text: str) -> None:
        nonlocal said
        said = text or said
        shares[index] = max(shares[index], 1000 * done // total)
        if progress is not None:
            progress(sum(shares), 1000 * len(arguments), said)

    if workers == 1 or len(arguments) == 1:
        results = []
        for index, given in enumerate(arguments):
            results.append(
                task(*given, lambda done, total, text, at=index: report(at, done, total, text))
            )
        return results

    context = multiprocessing.get_context("spawn")
    messages, stop = context.Queue(), context.Event()
    with (
        _one_thread_each(),
        ProcessPoolExecutor(
            min(workers, len(arguments)),
            mp_context=context,
            initializer=_start,
            initargs=(messages, stop),
        ) as pool,
    ):
        futures: list[Future] = [
            pool.submit(_call, task, index, given) for index, given in enumerate(arguments)
        ]
        try:
            pending = set(futures)
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                _drain(messages, report)
                for future in done:
                    future.result()
                    # its last message may still be on the way
                    report(futures.index(future), 1, 1, "")
        except BaseException as error:  # one failed, or the user wants to stop: stop the others too
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise RuntimeError(ENDED) from error
            raise
        return [future.result() for future in futures]


@contextmanager
def local(workers: int) -> Iterator[Executor]:
    """Processes of this machine, each with one thread for its numerical libraries.

    Parameters
    ----------
    workers : int
        Number of processes (1).

    Yields
    ------
    concurrent.futures.Executor
        For `couplers.propagation.propagate` or any other code that knows the interface.

    Raises
    ------
    ValueError
        If there is no worker.
    RuntimeError
        If one ended before its work did.
    """
    if workers < 1:
        raise ValueError(f"There are {workers} workers; give at least 1.")
    context = multiprocessing.get_context("spawn")
    with _one_thread_each(), ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            raise RuntimeError(ENDED) from error


@contextmanager
def dask(address: str) -> Iterator[Executor]:
    """Workers of a Dask cluster, through the same interface as `local`.

    Parameters
    ----------
    address : str
        Address of the scheduler, such as ``"tcp://10.0.0.1:8786"``; its workers must have this
        project and the versions of this machine.

    Yields
    ------
    concurrent.futures.Executor

    Raises
    ------
    ImportError
        If ``distributed`` is not installed.
    OSError
        If no scheduler answers there.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "A Dask cluster needs the package distributed; install this project's extra 'cluster', "
            "or use multiscale.executors.local."
        ) from error
    with Client(address) as client, client.get_executor() as pool:
        yield pool


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Environment in which new processes start with one thread for each numerical library."""
    kept = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))  # read by libraries as a worker starts
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Keep what upstream says while it is imported off the terminal; exceptions pass.

    torch_sim warns of its own use of TorchScript, and Warp writes from C++ that there is no GPU,
    which is no news to someone who asked for a CPU.
    """
    warnings.filterwarnings("ignore", message=r"`torch\.jit", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r"`torch\.jit", category=DeprecationWarning)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _drain(messages: Any, report: Callable[[int, int, int, str], None]) -> None:
    while True:
        try:
            report(*messages.get_nowait())
        except queue.Empty:
            return


def _start(messages: Any, stop: Any) -> None:
    global _messages, _stop
    _messages, _stop = messages, stop


def _call(task: Callable[..., Any], index: int, arguments: tuple[Any, ...]) -> Any:
    def tell(done: int, total: int, text: str) -> None:
        if _stop.is_set():
            raise RuntimeError("Stopped, because another task failed or was interrupted.")
        _messages.put((index, done, total, text))

    return task(*arguments, tell)
