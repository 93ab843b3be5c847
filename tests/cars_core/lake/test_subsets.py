"""Publication: whole or not at all, one version for one content, whoever publishes at once."""

from __future__ import annotations

import multiprocessing
from multiprocessing.pool import Pool
from pathlib import Path

import pyarrow as pa
import pytest
from lake_rows import CREATED, publish, publish_in_process, race, samples

from cars_core.lake.lake import Lake
from cars_core.lake.sql import query
from cars_core.lake.subsets import CONTENT, DamagedSubset, subset_digest, subset_rows
from schemas.errors import BadInput


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def kept(lake: Lake, rows: pa.Table, **change: object) -> object:
    lake.append("samples", rows, key=f"samples:{subset_digest(rows)}:{rows['build'][0]}")
    return publish(lake, rows, **change)


def test_version_counts_up_and_its_rows_come_back(lake: Lake) -> None:
    one, two = samples("e1", "e2"), samples("e3", build="b2")
    assert kept(lake, one).version == 1
    second = kept(lake, two)
    assert (second.version, second.new) == (2, True)
    assert subset_rows(lake, "effusions", 1).equals(one)
    assert subset_rows(lake, "effusions", 2).equals(two)
    rows = {r["version"]: r for r in lake.read("subsets").to_pylist()}
    assert (rows[1]["accepted"], rows[1]["rejected"], rows[1]["planned"]) == (2, 3, 10)
    assert rows[2]["build"] == "b2"


def test_equal_content_is_published_once_even_after_other_versions_and_builds(lake: Lake) -> None:
    first = kept(lake, samples("e1", "e2"))
    kept(lake, samples("e3", build="b2"))
    again = kept(lake, samples("e2", "e1", build="b3", psnr_outside=41.0))
    assert (again.version, again.new, again.digest) == (1, False, first.digest)
    assert lake.read("subsets").num_rows == 2


def test_other_subsets_count_their_own_versions(lake: Lake) -> None:
    rows = samples("e1")
    assert kept(lake, rows).version == kept(lake, rows, subset="other").version == 1


def test_digest_ignores_order_and_layout_and_sees_every_content_field() -> None:
    rows = samples("e1", "e2", "e3")
    shuffled = pa.concat_tables([rows.slice(2, 1), rows.slice(0, 1), rows.slice(1, 1)])
    assert shuffled.column(0).num_chunks == 3
    assert subset_digest(shuffled) == subset_digest(rows)
    assert subset_digest(samples("e1", "e2", "e3", build="b9", seam=1.5)) == subset_digest(rows)
    other = {"object": "9" * 64, "mask": "9" * 64, "image_id": "x", "present": 8, "absent": 2, "uncertain": 64,
             "licence": "CC-BY-4.0", "operations": [{"kind": "insert", "finding": "effusion", "side": "left",
                                                     "severity": 0.6}]}
    assert {*other, "edit_id"} == set(CONTENT)
    digests = [subset_digest(samples("e1", "e2", "e3", **{k: v})) for k, v in other.items()]
    assert len({*digests, subset_digest(rows), subset_digest(samples("e1", "e2", "e4"))}) == len(other) + 2


def test_publishers_at_once_of_equal_and_different_content(lake: Lake, tmp_path: Path, pool: Pool) -> None:
    """Four processes race, two with equal content: all succeed, three versions, none twice."""
    contents = ["a", "b", "b", "c"]
    done = race(pool, tmp_path / "start", publish_in_process,
                [(lake.uri, {}, c, "raced", False) for c in contents])
    versions = [v for v, _ in done]
    assert sorted(set(versions)) == [1, 2, 3]
    assert versions[1] == versions[2]
    assert sum(new for _, new in done) == 3
    assert sorted(lake.read("subsets")["version"].to_pylist()) == [1, 2, 3]
    for content, version in zip(contents, versions, strict=True):
        assert subset_rows(lake, "raced", version)["edit_id"].to_pylist() == [f"{content}-1", f"{content}-2"]
    assert lake.read("members").num_rows == 6


def test_stale_publisher_of_the_same_content_adds_no_version(lake: Lake) -> None:
    """Another publisher finishes between this one's look and its commit."""
    rows = samples("e1")
    late = kept(lake, rows, before_commit=lambda: kept(lake, rows))
    assert (late.version, late.new) == (1, False)
    assert lake.read("subsets").num_rows == 1


def test_publisher_killed_before_its_last_commit_leaves_nothing_to_see(lake: Lake, tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.mkdir()
    (start / "go").touch()
    child = multiprocessing.get_context("spawn").Process(
        target=publish_in_process, args=(lake.uri, {}, "a", "effusions", True, start))
    child.start()
    child.join(120)
    assert child.exitcode == -9
    assert lake.read("members").num_rows == 2, "it was killed after the members were written"
    assert lake.read("subsets").num_rows == 0
    assert query(lake, "SELECT * FROM members").num_rows == 0
    assert "effusions@1" not in query(lake, "SHOW TABLES")["name"].to_pylist()
    with pytest.raises(BadInput, match="effusions@1"):
        subset_rows(lake, "effusions", 1)
    rows = samples("a-1", "a-2", build="build-a")
    done = publish(lake, rows)
    assert (done.version, done.new) == (1, True)
    assert lake.read("members").num_rows == 2, "the retry used the members that were there"
    assert subset_rows(lake, "effusions", 1).equals(rows)


def test_refusal_in_before_commit_stops_the_publication(lake: Lake) -> None:
    def refuse() -> None:
        raise RuntimeError("an object is missing")

    with pytest.raises(RuntimeError, match="missing"):
        kept(lake, samples("e1"), before_commit=refuse)
    assert lake.read("subsets").num_rows == 0


def test_samples_left_twice_by_a_shard_that_ran_twice_count_once(lake: Lake) -> None:
    rows = samples("e1", "e2")
    kept(lake, rows)
    lake.append("samples", rows.slice(0, 1), key="the other shard size")
    assert subset_rows(lake, "effusions", 1).equals(rows)


def test_lost_samples_are_reported_not_silently_left_out(lake: Lake) -> None:
    lake.append("samples", samples("e1"), key="half")
    publish(lake, samples("e1", "e2"))
    with pytest.raises(DamagedSubset, match="1 of 2"):
        subset_rows(lake, "effusions", 1)


@pytest.mark.parametrize(("rows", "change", "named"), [
    (samples("e1", verdict="rejected"), {}, "rejected"),
    (samples("e1", "e1"), {}, "edit_id"),
    (samples("e1", object=None), {}, "object"),
    (samples("e1", mask=None), {}, "mask"),
    (samples(), {}, "no accepted sample"),
    (samples("e1"), {"build": "b2"}, "build"),
    (samples("e1"), {"subset": "Up/../x"}, "subset"),
    (samples("e1"), {"created": CREATED.replace(tzinfo=None)}, "zone"),
])
def test_what_must_not_be_published_is_refused(rows: pa.Table, change: dict, named: str, lake: Lake) -> None:
    with pytest.raises(BadInput, match=named):
        publish(lake, rows, **change)
    assert not Path(lake.uri).exists()


def test_unknown_version_is_answered_with_the_known_ones(lake: Lake) -> None:
    kept(lake, samples("e1"))
    with pytest.raises(BadInput, match=r"got effusions@7; expected one of effusions@1"):
        subset_rows(lake, "effusions", 7)
    with pytest.raises(BadInput, match=r"got typo@1; expected effusions"):
        subset_rows(lake, "typo", 1)
