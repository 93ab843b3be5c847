"""A submission window: as many shards in flight as the recipe has workers, never all at once.

A burst of thousands of task runs loses events and is refused by the server; a window does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def windowed(submit: Callable[[Any], Any], items: Iterable[Any], *, width: int) -> Iterator[tuple[Any, Any]]:
    """Submit `items` one by one with at most `width` in flight; yields (item, result) in order.

    Args:
        submit: item -> future with `.result()`.
    """
    flying: deque[tuple[Any, Any]] = deque()
    for item in items:
        if len(flying) >= width:
            done, future = flying.popleft()
            yield done, future.result()
        flying.append((item, submit(item)))
    for done, future in flying:
        yield done, future.result()
