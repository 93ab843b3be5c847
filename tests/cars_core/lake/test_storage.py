"""Objects and pages: what is read is what was written, or it is said which object is not."""

from __future__ import annotations

import hashlib
import pickle
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cars_core.lake.lake import DamagedObject, Lake, MissingObject
from cars_core.lake.storage import open_storage
from schemas.errors import BadInput


def object_path(lake: Lake, sha: str) -> Path:
    return Path(lake.uri, "objects", "sha256", sha[:2], sha)


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=3000))
def test_object_comes_back_under_its_sha256(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    lake = Lake(str(tmp_path_factory.getbasetemp() / "objects"))
    sha = lake.put(data)
    assert sha == hashlib.sha256(data).hexdigest()
    assert object_path(lake, sha).read_bytes() == data == lake.get(sha)
    assert lake.exists(sha)


def test_flipped_bit_is_found_named_and_mended_by_another_put(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    sha = lake.put(b"a film")
    damaged = bytearray(b"a film")
    damaged[3] ^= 1
    object_path(lake, sha).write_bytes(damaged)
    with pytest.raises(DamagedObject, match=sha):
        lake.get(sha)
    lake.put(b"a film")
    assert lake.get(sha) == b"a film"


def test_missing_object_is_named(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    assert not lake.exists("0" * 64)
    with pytest.raises(MissingObject, match="0" * 64):
        lake.get("0" * 64)


@pytest.mark.parametrize("sha", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_object_name_cannot_reach_other_files(sha: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="sha256"):
        Lake(str(tmp_path)).get(sha)


def test_reader_never_sees_half_an_object(tmp_path: Path) -> None:
    """Two writers replace one page with long runs of one letter; every read is one run, whole."""
    lake = Lake(str(tmp_path / "lake"))
    size, stop = 200_000, threading.Event()

    def write(letter: bytes) -> None:
        while not stop.is_set():
            lake.write_page("build/index.html", letter * size)

    lake.write_page("build/index.html", b"a" * size)
    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for w in writers:
        w.start()
    try:
        for _ in range(100):
            seen = Path(lake.uri, "pages/build/index.html").read_bytes()
            assert len(seen) == size
            assert len(set(seen)) == 1
    finally:
        stop.set()
        for w in writers:
            w.join()
    assert [p.name for p in Path(lake.uri, "pages/build").iterdir()] == ["index.html"], "no temporary file stays"


def test_page_address_is_where_the_page_is(tmp_path: Path) -> None:
    uri = Lake(str(tmp_path / "lake")).write_page("a/b.html", b"<p>")
    assert Path(uri).read_bytes() == b"<p>"


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../tables/x", "a/../../x", "a\\b"])
def test_page_stays_inside_the_lake(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="page"):
        Lake(str(tmp_path)).write_page(name, b"")


@pytest.mark.parametrize("below", ["taken", "taken/lake"])
def test_place_that_cannot_be_a_folder_is_said_in_one_line_before_work_starts(below: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    lake = Lake(str(tmp_path / below))
    with pytest.raises(BadInput, match="a folder that can be written") as e:
        lake.ensure_writable()
    assert (e.value.where, e.value.value) == ("lake", lake.uri)
    with pytest.raises(BadInput, match="a folder that can be written"):
        lake.delta_table("renders")


def test_ensure_writable_leaves_nothing_behind(tmp_path: Path) -> None:
    Lake(str(tmp_path / "new" / "lake")).ensure_writable()
    assert list((tmp_path / "new" / "lake").iterdir()) == []


def test_relative_and_file_addresses_name_the_same_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Lake("lake").uri == Lake(f"file://{tmp_path}/lake").uri == str(tmp_path.resolve() / "lake")


@pytest.mark.parametrize("uri", ["", "gs://bucket/x", "s3://bucket", "s3:///prefix", "http://host/x"])
def test_address_that_is_no_lake_is_refused(uri: str) -> None:
    with pytest.raises(BadInput, match="lake"):
        open_storage(uri)


def test_misspelt_storage_option_is_refused_not_ignored(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="AWS_ENDPOINT_URL"):
        Lake(str(tmp_path), storage={"AWS_ENDPOINT": "http://localhost"})


def test_lake_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    assert pickle.loads(pickle.dumps(lake)).get(lake.put(b"x")) == b"x"
