"""Inside a reading process of guard.Guard: films are read one by one, each within its limits.

The kernel keeps the limits, so they hold in native code that never returns to Python:

- ITIMER_PROF counts the processor time of all the process's threads, ITIMER_REAL the clock; the signal of either ends
  the process, and the caller knows it by its exit status.
- RLIMIT_DATA counts private writable memory, what malloc and numpy hand out (Linux 4.7 and later, setrlimit(2)).
  RLIMIT_AS would count libraries and files as well, whose size says nothing of a film.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from threadpoolctl import threadpool_limits

from cars_core.cohort.films import UnusableFilm

CLOCK = 6       # times its `seconds` that a film may take by the clock: on a machine shared by many it waits its turn
_LEFT_OVER = 4  # a process that keeps over 1/4 of a film's memory after it is replaced: leaks must not add up
_TIMERS = (signal.ITIMER_PROF, signal.ITIMER_REAL)


@contextmanager
def paused() -> Iterator[None]:
    """Time spent inside does not count as decoding: for what a `load` does besides, such as writing to a store.

    Outside a Guard's processes it does nothing, unless there are timers of somebody else's.
    """
    left = [signal.setitimer(timer, 0)[0] for timer in _TIMERS]
    try:
        yield
    finally:
        for timer, seconds in zip(_TIMERS, left, strict=True):
            signal.setitimer(timer, seconds)


class Limits:
    """One film's limits, as a context manager: the process ends by SIGPROF or SIGALRM, or MemoryError is raised.

    Args:
        seconds: of processor time; CLOCK times as many by the clock.
        memory: bytes beyond what the process holds now.
    """

    def __init__(self, seconds: float, memory: int) -> None:
        self._seconds = (seconds, CLOCK * seconds)
        self._memory, self._before, self._start = memory, resource.getrlimit(resource.RLIMIT_DATA), _held()

    def __enter__(self) -> None:
        if self._start is not None:
            soft, hard = self._before
            most = self._start + self._memory
            set_by_user = min((limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY), default=most)
            resource.setrlimit(resource.RLIMIT_DATA, (min(most, set_by_user), hard))
        for timer, seconds in zip(_TIMERS, self._seconds, strict=True):
            signal.setitimer(timer, seconds)

    def __exit__(self, *_: object) -> None:
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        resource.setrlimit(resource.RLIMIT_DATA, self._before)

    def swollen(self) -> bool:
        """Whether this process keeps much more memory than it had at its start."""
        held = _held()
        return held is not None and self._start is not None and held - self._start > self._memory // _LEFT_OVER


def _held() -> int | None:
    """Bytes of private writable memory of this process, as RLIMIT_DATA counts them (and its stack); None off Linux."""
    try:
        with open("/proc/self/statm", "rb") as f:
            return int(f.read().split()[5]) * resource.getpagesize()
    except OSError:
        return None


def serve(descriptor: int) -> None:
    """Read films until the caller closes its end."""
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # an ignored signal stays ignored in a new program
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core holds the film and its header
    pipe = Connection(descriptor)
    with suppress(EOFError, OSError):  # the caller has gone
        _answer(pipe)
    os._exit(0)  # no clean-up: decoders' memory may be damaged


def _answer(pipe: Connection) -> None:
    setup = pipe.recv_bytes()
    try:
        load, seconds, memory = pickle.loads(setup)
    except Exception as e:
        pipe.send(("error", _sendable(e), True))
        return
    threadpool_limits(1)  # libraries that the variables do not reach
    limits = Limits(seconds, memory)
    pipe.send(("ready", None, False))
    leaves = False
    while not leaves:
        packed = pipe.recv_bytes()
        try:
            item = pickle.loads(packed)
            with limits:
                kind, payload = "done", load(item)
        except UnusableFilm as e:
            kind, payload = "done", UnusableFilm(*e.args)
        except MemoryError:
            kind, payload, leaves = "memory", None, True
        except BaseException as e:
            kind, payload, leaves = "error", _sendable(e), True
        leaves = leaves or limits.swollen()
        try:
            answer = pickle.dumps((kind, payload, leaves))
        except Exception as e:
            answer = pickle.dumps(("error", _sendable(e), True))
        pipe.send_bytes(answer)


def _sendable(error: BaseException) -> BaseException:
    """The error with the place it came from (lines of code, no values), or one that says its kind if it has no copy."""
    error.add_note("in a reading process:\n" + "".join(traceback.format_tb(error.__traceback__)))
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"a reading process failed with {type(error).__name__}")
