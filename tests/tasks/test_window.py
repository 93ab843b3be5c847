"""The submission window: a build of many shards must not flood the server."""

import pytest

from tasks.window import windowed


class Future:
    def __init__(self, log: list[str], item: int) -> None:
        self.log, self.item = log, item

    def result(self) -> int:
        self.log.append(f"wait {self.item}")
        return self.item * 10


def test_never_more_than_width_in_flight_and_every_result_in_order() -> None:
    log: list[str] = []
    flying, most = 0, 0

    def submit(item: int) -> Future:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        return Future(log, item)

    got = []
    for item, result in windowed(submit, range(7), width=2):
        flying -= 1
        got.append((item, result))
    assert got == [(i, i * 10) for i in range(7)]
    assert most == 2


def test_a_failed_shard_is_not_swallowed() -> None:
    class Broken:
        def result(self) -> int:
            raise RuntimeError("shard 3")

    with pytest.raises(RuntimeError, match="shard 3"):
        list(windowed(lambda _: Broken(), [1], width=1))
