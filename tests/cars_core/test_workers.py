"""Worker processes: threads that spin in them would take the processors from one another."""

from __future__ import annotations

import signal

from cars_core.workers import process_pool


def _state() -> tuple[int, bool]:
    import numpy  # noqa: F401 - these load the libraries whose threads are counted
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    return max(pool["num_threads"] for pool in threadpool_info()), signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_worker_computes_on_one_thread_and_leaves_an_interrupt_to_the_caller() -> None:
    with process_pool(1) as pool:
        assert pool.submit(_state).result() == (1, True)
