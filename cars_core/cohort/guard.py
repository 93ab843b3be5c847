"""Reading films where a decoder may crash, hang or eat memory: each costs one film and nothing else.

Films are read in processes of their own. The kernel keeps their limits, so they hold inside native code that never
returns to Python:

- time: a film has `seconds` of its process's processor time, which a busy machine does not use up, and
  reading.CLOCK times as long by the clock, for a decoder that waits forever. Neither runs while a process waits for
  work, nor inside `reading.paused()`.
- memory: `memory` bytes beyond what the process held at its start. Linux only: other systems have the time limits
  alone. A decoder that does not expect malloc to fail counts as crashed.

A film that ended its process, or ran out of memory, is tried once more in a fresh process with nothing behind it,
since somebody else may have killed the first. What a process prints goes nowhere: native decoders name files in
their warnings.

This contains accidents and malformed files. It is no sandbox: a process may do whatever its user may.
"""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from cars_core.cohort.films import UnusableFilm

T = TypeVar("T")
R = TypeVar("R")

CRASHED = "decoding crashed"
_TRIES = 2
_AHEAD = 3         # items a process has at once, so that it goes on while the caller is busy with results
_SMALL = 4096      # bytes of an item sent ahead: fits every system's socket buffer, so that sending never blocks
_SKIPPED = 1024    # items passed over that may wait for the ones before them
_STARTS = 3        # processes that die before they are ready, until the fault is not a film's
_GRACE = 2.0       # seconds that killed processes have to be gone; one stuck in the kernel is left behind
# -P: a json.py in the working directory is not imported. One thread each, or idle threads take the processors.
_PYTHON = ("import os, sys, json\n"
           "os.environ.update(OPENBLAS_NUM_THREADS='1', OMP_NUM_THREADS='1', MKL_NUM_THREADS='1')\n"
           "sys.path[:] = json.loads(sys.argv[1])\n"
           "from cars_core.cohort.reading import serve\n"
           "serve(int(sys.argv[2]))\n")


@dataclass
class _Task(Generic[T]):
    """An item under way. `outcome` holds the result once `done`."""

    item: T
    packed: bytes
    tries: int = 0
    done: bool = False
    outcome: Any = None


@dataclass
class _Process(Generic[T]):
    """A reading process and the tasks it was sent, in order: it works on the first."""

    popen: subprocess.Popen[bytes]
    pipe: Connection
    tasks: deque[_Task[T]] = field(default_factory=deque)
    ready: bool = False


class Guard(Generic[T, R]):
    """A pool of reading processes; use it as a context manager.

    Args:
        workers: processes at most; they start when there is work for them.
        load: what turns an item into a result. Pickled once, sent to each process at its start, so a function of an
            importable module (not `__main__`), or a `partial` or object of one. It raises UnusableFilm for a bad film.
        seconds: processor time for one film.
        memory: bytes for one film.

    Raises:
        ValueError: no workers.
    """

    def __init__(self, workers: int, load: Callable[[T], R], *, seconds: float = 10.0, memory: int = 1 << 30) -> None:
        if workers < 1:
            raise ValueError("a guard has at least one worker")
        self._workers = workers
        self._setup = pickle.dumps((load, seconds, memory))
        self._slow = f"decoding took over {seconds:g} s"
        self._large = f"decoding needs over {_size(memory)} of memory"
        self._pool: list[_Process[T]] = []
        self._again: deque[_Task[T]] = deque()  # each waits for a process of its own
        self._fresh: deque[_Task[T]] = deque()
        self._bad_starts = 0

    def __enter__(self) -> Guard[T, R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes at once, whatever they are doing."""
        pool, self._pool = self._pool, []
        self._again.clear()
        self._fresh.clear()
        for process in pool:
            process.popen.kill()
        for process in pool:
            process.pipe.close()
            _gone(process.popen)

    def results(self, items: Iterable[T], *, in_flight: int,
                skip: Callable[[T], bool] | None = None) -> Iterator[tuple[T, R | UnusableFilm | None]]:
        """(item, its result or why there is none) for each item, in their order.

        Args:
            items: pulled as there is room. They are pickled.
            in_flight: items at most that were pulled and not yet yielded; at least 1.
            skip: items for which this is true are not read: their result is None. They do not count as in flight.

        Raises:
            Exception: what `load` or `items` raised, other than UnusableFilm. All processes have ended by then, as they
                have when the caller stops before the end.
            RuntimeError: the processes do not start.
            ValueError: `in_flight` is under 1.
        """
        if in_flight < 1:
            raise ValueError("in_flight is at least 1")
        source, order, reading, more = iter(items), deque[_Task[T]](), 0, True
        try:
            while True:
                while more and reading < in_flight and len(order) < in_flight + _SKIPPED:
                    try:
                        item = next(source)
                    except StopIteration:
                        more = False
                        break
                    if skip is not None and skip(item):
                        order.append(_Task(item, b"", done=True))
                        continue
                    task = _Task(item, pickle.dumps(item))
                    order.append(task)
                    self._fresh.append(task)
                    reading += 1
                if not order:
                    return
                self._give()
                if order[0].done:
                    task = order.popleft()
                    reading -= bool(task.packed)
                    self._collect(timeout=0)  # hand on work before the caller takes its time
                    self._give()
                    yield task.item, task.outcome
                else:
                    self._collect(timeout=None)
        finally:
            if order:
                self.close()

    def _give(self) -> None:
        """Send tasks to the processes that have room."""
        while self._again:
            process = next((p for p in self._pool if not p.tasks and not p.ready), None) or self._start_one()
            if process is None:
                return  # no more for the others, so that one of them becomes idle
            self._send(process, self._again.popleft())
        while self._fresh:
            small = len(self._fresh[0].packed) <= _SMALL
            process = min(self._pool, key=lambda p: len(p.tasks), default=None)
            if (process is None or process.tasks) and len(self._pool) < self._workers:
                process = self._start_one()
            if process is None or any(t.tries > 0 for t in process.tasks):  # what is tried again has nothing behind it
                free = [p for p in self._pool if not any(t.tries > 0 for t in p.tasks)]
                process = min(free, key=lambda p: len(p.tasks), default=None)
            if process is None or len(process.tasks) >= (_AHEAD if small else 1):
                return
            self._send(process, self._fresh.popleft())

    def _start_one(self) -> _Process[T] | None:
        """A new process, in the place of an idle one if all places are taken; None if all are busy."""
        if len(self._pool) >= self._workers:
            idle = next((p for p in self._pool if not p.tasks), None)
            if idle is None:
                return None
            self._pool.remove(idle)
            idle.pipe.close()  # it ends by itself
            idle.popen.kill()
            _gone(idle.popen)
        ours, theirs = Pipe()
        with theirs:
            popen = subprocess.Popen(
                [sys.executable, "-P", "-c", _PYTHON, json.dumps([str(p) for p in sys.path]), str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True)  # an interrupt at the terminal is the caller's
        process: _Process[T] = _Process(popen, ours)
        self._pool.append(process)
        with suppress(OSError):  # dead already, which reading from it will show
            process.pipe.send_bytes(self._setup)
        return process

    def _send(self, process: _Process[T], task: _Task[T]) -> None:
        process.tasks.append(task)
        with suppress(OSError):  # dead, which reading from it will show
            process.pipe.send_bytes(task.packed)

    def _collect(self, *, timeout: float | None) -> None:
        """Take in what the processes have answered; wait for a first answer unless `timeout` says otherwise."""
        by_pipe = {p.pipe: p for p in self._pool if p.tasks or not p.ready}
        for pipe in wait(list(by_pipe), timeout):
            process = by_pipe[pipe]  # type: ignore[index]
            try:
                kind, payload, leaves = process.pipe.recv()
            except (EOFError, OSError):
                self._died(process)
                continue
            if kind == "ready":
                process.ready, self._bad_starts = True, 0
                continue
            if kind == "error":
                raise payload
            task = process.tasks.popleft()
            if kind == "memory":
                self._failed(task, self._large)
            else:
                task.done, task.outcome = True, payload
            if leaves:
                self._dismiss(process)

    def _died(self, process: _Process[T]) -> None:
        self._dismiss(process, kill=False)
        code = process.popen.returncode
        if not process.ready:
            self._bad_starts += 1
            if self._bad_starts >= _STARTS:
                raise RuntimeError(f"reading processes do not start (exit status {code})")

    def _dismiss(self, process: _Process[T], *, kill: bool = True) -> None:
        """Take a process out of the pool; what it had not begun goes back to be sent again."""
        self._pool.remove(process)
        process.pipe.close()
        if kill:
            process.popen.kill()
        _gone(process.popen)
        if not kill and process.ready and process.tasks:
            late = process.popen.returncode in (-signal.SIGPROF, -signal.SIGALRM)
            self._failed(process.tasks.popleft(), self._slow if late else CRASHED)
        for task in reversed(process.tasks):
            (self._again if task.tries else self._fresh).appendleft(task)

    def _failed(self, task: _Task[T], reason: str) -> None:
        task.tries += 1
        if task.tries < _TRIES:
            self._again.append(task)
        else:
            task.done, task.outcome = True, UnusableFilm(reason)


def _gone(popen: subprocess.Popen[bytes]) -> None:
    try:
        popen.wait(_GRACE)
    except subprocess.TimeoutExpired:
        popen.kill()


def _size(count: int) -> str:
    return f"{count / (1 << 30):g} GB" if count >= 1 << 30 else f"{count / (1 << 20):g} MB"
