"""The same lake on a real S3 server: one storage setting, the same promises."""

from __future__ import annotations

import pickle
import uuid
from multiprocessing.pool import Pool
from pathlib import Path

import pytest
from lake_rows import append_in_process, publish, publish_in_process, race, renders, samples

from cars_core.lake.lake import DamagedObject, Lake, MissingObject
from cars_core.lake.sql import query
from cars_core.lake.subsets import subset_rows
from schemas.errors import BadInput


@pytest.fixture
def lake(s3_storage: dict[str, str]) -> Lake:
    return Lake(f"s3://cars/{uuid.uuid4().hex}", storage=s3_storage)


def test_objects_and_pages(lake: Lake, s3_storage: dict[str, str]) -> None:
    import s3fs

    lake.ensure_writable()
    sha = lake.put(b"a film")
    assert lake.get(sha) == b"a film"
    assert lake.exists(sha)
    assert not lake.exists("0" * 64)
    with pytest.raises(MissingObject, match="0" * 64):
        lake.get("0" * 64)
    page = lake.write_page("b/index.html", b"<p>")
    fs = s3fs.S3FileSystem(key="key", secret="secret", endpoint_url=s3_storage["AWS_ENDPOINT_URL"])
    assert fs.cat_file(page) == b"<p>"
    fs.pipe_file(f"{lake.uri}/objects/sha256/{sha[:2]}/{sha}", b"a fill")
    with pytest.raises(DamagedObject, match=sha):
        pickle.loads(pickle.dumps(lake)).get(sha)


def test_tables_publication_and_sql(lake: Lake) -> None:
    assert lake.read("samples").num_rows == 0
    rows = samples("e1", "e2")
    assert lake.append("samples", rows, key="s")
    assert not lake.append("samples", rows, key="s")
    assert lake.append("renders", renders("e1"), key="r")
    done = publish(lake, rows)
    assert (done.version, done.new) == (1, True)
    assert not publish(lake, rows).new
    assert subset_rows(lake, "effusions", 1).equals(rows)
    assert query(lake, 'SELECT edit_id FROM "effusions@1" ORDER BY 1')["edit_id"].to_pylist() == ["e1", "e2"]


def test_processes_at_once_lose_and_double_nothing(lake: Lake, s3_storage: dict[str, str], tmp_path: Path,
                                                   pool: Pool) -> None:
    first = race(pool, tmp_path / "appends", append_in_process,
                 [(lake.uri, s3_storage, ["a", "b", f"own-{p}"]) for p in range(4)])
    assert sum(first) == 2 + 4
    assert sorted(lake.read("renders")["edit_id"].to_pylist()) == ["a", "b", "own-0", "own-1", "own-2", "own-3"]
    contents = ["a", "b", "b", "c"]
    done = race(pool, tmp_path / "publishers", publish_in_process,
                [(lake.uri, s3_storage, c, "raced", False) for c in contents])
    versions = [v for v, _ in done]
    assert sorted(set(versions)) == [1, 2, 3]
    assert versions[1] == versions[2]
    for content, version in zip(contents, versions, strict=True):
        assert subset_rows(lake, "raced", version)["edit_id"].to_pylist() == [f"{content}-1", f"{content}-2"]


@pytest.mark.parametrize(("option", "value", "reason"), [
    ("AWS_SECRET_ACCESS_KEY", "wrong", "signature"),  # both clients are refused
    ("AWS_ALLOW_HTTP", "false", "scheme is not allowed"),  # only delta-rs heeds it: the objects alone would pass
])
def test_wrong_setting_is_said_in_one_line_before_work_starts(option: str, value: str, reason: str,
                                                              s3_storage: dict[str, str]) -> None:
    lake = Lake("s3://cars/x", storage={**s3_storage, option: value})
    with pytest.raises(BadInput, match=reason) as e:
        lake.ensure_writable()
    assert e.value.where == "lake"
    assert "\n" not in str(e.value)
    assert "\x1b" not in str(e.value)
