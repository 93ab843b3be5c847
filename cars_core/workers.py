"""Processes for work that holds the interpreter's lock, such as drawing films."""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor

from threadpoolctl import threadpool_limits


def process_pool(workers: int) -> ProcessPoolExecutor:
    """A pool whose processes compute on one thread each and leave an interrupt to the caller.

    Never a plain fork: the caller may have threads (Prefect, torch), whose locks a fork would copy.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)


def _begin() -> None:
    # Idle threads of the linear algebra library spin: two workers on two cores wrote 10 films a second with them, 27
    # without (`cars phantom --n 200 --layout mimic`, OPENBLAS_NUM_THREADS 2 against 1).
    # numpy and scipy each bring their own; a limit reaches only what is loaded.
    import numpy  # noqa: F401
    import scipy.linalg  # noqa: F401

    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
