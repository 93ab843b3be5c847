"""What the reading processes of test_guard.py are given to do: a module that they can import."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np

from cars_core.cohort.films import UnusableFilm
from cars_core.cohort.reading import paused


def act(item: tuple[str, object]) -> object:
    """Do what the item says; anything not known is handed back."""
    what, value = item
    if what == "crash":
        ctypes.string_at(0)
    elif what == "abort":
        os.abort()
    elif what == "exit":
        os._exit(0)
    elif what == "kill once":
        _once(value, lambda: os.kill(os.getpid(), signal.SIGKILL))
    elif what == "late once":
        _once(value, lambda: time.sleep(60))
    elif what == "spin":
        while True:
            pass
    elif what == "wait":
        time.sleep(1000)
    elif what == "sleep":
        time.sleep(float(str(value)))
    elif what == "write":
        with paused():
            time.sleep(float(str(value)))
    elif what == "eat":
        return int(np.ones(int(str(value)) << 20, np.uint8)[-1])
    elif what == "limit":
        return resource.getrlimit(resource.RLIMIT_DATA)[0]
    elif what == "leak":
        _KEPT.append(np.ones(int(str(value)) << 20, np.uint8))
        return os.getpid()
    elif what == "unusable":
        raise UnusableFilm(str(value))
    elif what == "full":
        raise OSError(28, "No space left on device")
    elif what == "unsendable":
        return lambda: None
    elif what == "pid":
        return os.getpid()
    elif what == "print":
        print(value, flush=True)
        print(value, file=sys.stderr, flush=True)
        os.write(1, str(value).encode())
        os.write(2, str(value).encode())
    return value


_KEPT: list[object] = []


def _once(marker: object, do: object) -> None:
    path = Path(str(marker))
    if not path.exists():
        path.touch()
        do()  # type: ignore[operator]


class Unloadable:
    """Cannot be set up in another process."""

    def __call__(self, item: object) -> object:
        return item

    def __reduce__(self) -> tuple[object, ...]:
        return (_refuse, ())


def _refuse() -> None:
    raise ValueError("weights are missing")


class Deadly(Unloadable):
    """Kills each process that sets it up."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.abort, ())
