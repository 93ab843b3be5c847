"""Guarded reading: a hostile film costs itself; the films beside it, their order and the caller are untouched."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guarded_loads import Deadly, Unloadable, act

from cars_core.cohort.films import UnusableFilm
from cars_core.cohort.guard import Guard
from schemas.errors import BadInput

Item = tuple[str, object]
GOOD: list[Item] = [("good", i) for i in range(20)]


def _run(items: list[Item], *, workers: int = 2, in_flight: int = 6, **limits: Any) -> list[object]:
    """Each item's result, reasons as text; fails unless each came with its own item, in order."""
    with Guard(workers, act, **limits) as guard:
        pairs = list(guard.results(items, in_flight=in_flight))
    assert [item for item, _ in pairs] == items
    return [str(r) if isinstance(r, UnusableFilm) else r for _, r in pairs]


def _living(pids: list[int]) -> list[int]:
    def lives(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
        except OSError:
            return False
    return [p for p in pids if lives(p)]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("crash", ["crash", "abort", "exit"])
def test_a_decoder_that_crashes_costs_its_film_and_no_other(crash: str, workers: int) -> None:
    items: list[Item] = [*GOOD[:3], (crash, None), *GOOD[3:6], (crash, None), (crash, None), *GOOD[6:]]
    crashed = "decoding crashed"
    assert _run(items, workers=workers) == [0, 1, 2, crashed, 3, 4, 5, crashed, crashed, *range(6, 20)]


@pytest.mark.parametrize("hang", ["spin", "wait"])
def test_a_decoder_that_hangs_costs_its_film_and_no_other(hang: str) -> None:
    items: list[Item] = [*GOOD[:3], (hang, None), *GOOD[3:]]
    assert _run(items, seconds=0.2) == [0, 1, 2, "decoding took over 0.2 s", *range(3, 20)]


def test_a_film_that_needs_too_much_memory_is_refused_and_one_that_needs_less_is_read() -> None:
    items: list[Item] = [("good", 0), ("eat", 300), ("eat", 100), ("good", 2)]
    assert _run(items, memory=200 << 20) == [0, "decoding needs over 200 MB of memory", 1, 2]


def test_reasons_state_the_limits_in_the_units_a_reader_expects() -> None:
    assert _run([("eat", 1100)]) == ["decoding needs over 1 GB of memory"]


@pytest.mark.parametrize("harm", ["kill once", "late once"])
def test_a_good_film_is_kept_when_somebody_else_killed_its_process(harm: str, tmp_path: Path) -> None:
    marker = str(tmp_path / "marker")
    items: list[Item] = [*GOOD[:4], (harm, marker), *GOOD[4:]]
    assert _run(items, seconds=0.2) == [0, 1, 2, 3, marker, *range(4, 20)]


def test_films_queued_behind_one_that_ends_its_process_are_neither_lost_nor_blamed(tmp_path: Path) -> None:
    markers: list[Item] = [("kill once", str(tmp_path / str(i))) for i in range(6)]
    assert _run([*markers, ("crash", None), *GOOD[:2]], workers=1) == [
        *(value for _, value in markers), "decoding crashed", 0, 1]


def test_the_limit_counts_neither_queueing_nor_idle_time_nor_what_is_paused() -> None:
    items: list[Item] = [*[("sleep", 0.15)] * 8, ("write", 1.0)]  # 1.2 s of films at most 0.6 s each
    with Guard(1, act, seconds=0.1) as guard:
        first = [r for _, r in guard.results(items, in_flight=9)]
        time.sleep(1.0)
        second = [r for _, r in guard.results(GOOD[:2], in_flight=2)]
    assert (first, second) == ([0.15] * 8 + [1.0], [0, 1])


def test_a_leak_is_ended_with_its_process_before_it_makes_good_films_fail() -> None:
    """Ten films leak half the limit together with no film over it."""
    pids = _run([("leak", 60)] * 10, workers=1, in_flight=1, memory=200 << 20)
    assert all(isinstance(p, int) for p in pids)
    assert len(set(pids)) == 10  # 60 MB is over a quarter of 200 MB


def test_processes_are_reused_and_their_number_is_bounded() -> None:
    assert len(set(_run([("pid", None)] * 200, workers=2, in_flight=20))) <= 2


def test_what_a_decoder_prints_reaches_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    _run([("print", "/films/DOE^JANE.png: corrupt")])
    assert capfd.readouterr() == ("", "")


def test_items_are_pulled_as_there_is_room() -> None:
    pulled = 0

    def items() -> Iterator[Item]:
        nonlocal pulled
        for item in GOOD:
            pulled += 1
            yield item

    with Guard(2, act) as guard:
        for seen, _ in enumerate(guard.results(items(), in_flight=3)):
            assert pulled <= seen + 4


def test_items_passed_over_keep_their_place_and_are_not_sent() -> None:
    items: list[Item] = [("crash", 0), ("good", 1), ("crash", 2), ("good", 3), ("crash", 4)]
    with Guard(2, act) as guard:
        pairs = list(guard.results(items, in_flight=2, skip=lambda item: item[0] == "crash"))
    assert pairs == list(zip(items, [None, 1, None, 3, None], strict=True))


def test_results_and_items_larger_than_a_sockets_buffer_pass_both_ways() -> None:
    large = bytes(3_000_000)
    items: list[Item] = [("good", large), ("good", 1)] * 6
    assert _run(items) == [large, 1] * 6


def test_no_room_for_films_is_an_error_and_not_an_empty_result() -> None:
    with pytest.raises(ValueError, match="worker"):
        Guard(0, act)
    with Guard(1, act) as guard, pytest.raises(ValueError, match="in_flight"):
        list(guard.results(GOOD, in_flight=0))


def test_a_users_own_memory_limit_is_kept() -> None:
    """`ulimit -d` of the shell that started the ingest."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (700 << 20, before[1]))
    try:
        results = _run([("limit", None), ("eat", 300), ("eat", 900)], workers=1, memory=1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
    assert results == [700 << 20, 1, "decoding needs over 1 GB of memory"]


def test_an_unusable_film_comes_as_its_reason() -> None:
    assert _run([("unusable", "image is not a PNG or JPEG"), ("good", 1)]) == ["image is not a PNG or JPEG", 1]


def test_a_full_disk_stops_everything_without_waiting_for_stuck_films() -> None:
    with Guard(2, act) as guard:
        pids = [int(str(r)) for _, r in guard.results([("pid", None)] * 8, in_flight=8)]
        with pytest.raises(OSError, match="No space left") as caught:
            list(guard.results([("wait", None), ("full", None), ("wait", None)], in_flight=3))
    assert caught.value.errno == 28
    assert "guarded_loads.py" in "".join(caught.value.__notes__)
    assert not _living(pids)


def test_a_result_that_cannot_be_sent_is_an_error_and_not_a_film_lost() -> None:
    with Guard(1, act) as guard, pytest.raises(Exception, match=r"pickle|local object"):
        list(guard.results([("unsendable", None)], in_flight=1))


def test_an_error_of_the_items_themselves_passes_through() -> None:
    def items() -> Iterator[Item]:
        yield "good", 0
        raise BadInput("labels.csv", "a path that leads out", "a file inside")

    with Guard(1, act) as guard, pytest.raises(BadInput, match="leads out"):
        list(guard.results(items(), in_flight=2))


def test_a_loader_that_cannot_be_set_up_says_why_instead_of_refusing_every_film() -> None:
    with Guard(1, Unloadable()) as guard, pytest.raises(ValueError, match="weights are missing"):
        list(guard.results(GOOD, in_flight=2))
    with Guard(2, Deadly()) as guard, pytest.raises(RuntimeError, match="do not start"):
        list(guard.results(GOOD, in_flight=2))


def test_a_caller_that_stops_early_leaves_no_process_behind() -> None:
    with Guard(2, act) as guard:
        pids = []
        for _, result in guard.results([("pid", None), ("pid", None), *[("wait", None)] * 2], in_flight=4):
            pids.append(int(str(result)))
            if len(pids) == 2:
                break
        assert not _living(pids)  # the guard can be used again
        assert [r for _, r in guard.results(GOOD, in_flight=4)] == list(range(20))


_SCRIPT = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts behind it ignore interrupts
sys.path[:] = json.loads(sys.argv[1])
from cars_core.cohort.guard import Guard
from guarded_loads import act
with Guard(2, act, seconds=1) as guard:
    for _, pid in guard.results([("pid", None)] * 8 + [("wait", None)] * 4, in_flight=6):
        print(pid, flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupt_or_a_killed_caller_leaves_no_process_and_no_noise(how: signal.Signals) -> None:
    """The signal goes to the whole group, as a terminal sends it."""
    caller = subprocess.Popen([sys.executable, "-c", _SCRIPT, json.dumps(sys.path)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert caller.stdout is not None
    pids = [int(caller.stdout.readline()) for _ in range(8)]
    assert _living(pids)
    os.killpg(caller.pid, how)
    _, errors = caller.communicate(timeout=90)
    assert errors.count("Traceback") == (how == signal.SIGINT)  # the caller's own
    assert "guarded_loads" not in errors
    late = time.monotonic() + (0 if how == signal.SIGINT else 90)  # those amid a film live to its end or its limit
    while (left := _living(pids)) and time.monotonic() < late:
        time.sleep(0.1)
    assert not left
