"""A tree reaches its own files, wherever it lies, and nothing outside it."""

from __future__ import annotations

import os
import pickle
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cars_core.cohort.sources.tree import Tree, leads_out, open_tree
from schemas.errors import BadInput

FILES = {"a.csv": b"a", "b/c/d.jpg": b"1234", "b/c/e.jpg": b"", "b/f.txt": b"f" * 300, "z/y.png": b"y"}


def local(root: Path) -> Tree:
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return open_tree(str(root))


def bucket(storage: dict[str, str]) -> Tree:
    import s3fs

    root = f"s3://cars/{uuid.uuid4().hex}"
    fs = s3fs.S3FileSystem(key="key", secret="secret", endpoint_url=storage["AWS_ENDPOINT_URL"])
    for path, data in FILES.items():
        fs.pipe_file(f"{root}/{path}", data)
    return open_tree(root, storage=storage)


@pytest.fixture(params=["local", "s3"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    if request.param == "local":
        return local(tmp_path / "root")
    return bucket(request.getfixturevalue("s3_storage"))


def test_files_are_found_read_and_walked_alike_on_disk_and_on_s3(tree: Tree) -> None:
    tree = pickle.loads(pickle.dumps(tree))  # as a worker gets it
    assert {p: tree.size(p) for p in FILES} == {p: len(d) for p, d in FILES.items()}
    assert {p: tree.read(p, most=400) for p in FILES} == FILES
    assert list(tree.walk()) == ["a.csv", "b/f.txt", "b/c/d.jpg", "b/c/e.jpg", "z/y.png"]
    assert tree.children() == (["b", "z"], ["a.csv"])
    assert tree.children("b") == (["c"], ["f.txt"])
    assert tree.children("none") == ([], [])
    assert (tree.head("b/f.txt", most=5), tree.head("a.csv", most=5)) == (b"fffff", b"a")
    with tree.open("b/f.txt") as file:
        assert (file.read(2), file.read()) == (b"ff", b"f" * 298)


def test_what_is_missing_or_too_large_is_an_error_and_not_a_short_read(tree: Tree) -> None:
    assert [tree.size(p) for p in ("none", "b", "b/c", "", "b/none.jpg")] == [None] * 5
    for call in (tree.open, lambda p: tree.read(p, most=9)):
        with pytest.raises(FileNotFoundError):
            call("b/none.jpg")
    with pytest.raises(OSError, match="too large"):
        tree.read("b/f.txt", most=299)


@pytest.mark.parametrize("path", ["../secret", "b/../../secret", "/etc/hostname", "..\\secret", "C:\\x", "c:x"])
def test_no_path_leads_out(tree: Tree, path: str) -> None:
    """A label file from elsewhere must not make the factory publish files of this machine."""
    if not tree.remote:
        Path(tree.root).parent.joinpath("secret").write_bytes(b"secret")
    assert leads_out(path)
    assert tree.size(path) is None
    for call in (tree.open, lambda p: tree.read(p, most=99)):
        with pytest.raises(OSError):
            call(path)
    assert tree.children(path) == ([], []) or tree.remote


def test_links_are_followed_inside_only(tmp_path: Path) -> None:
    tree = local(tmp_path / "root")
    root = Path(tree.root)
    (tmp_path / "secret.txt").write_bytes(b"secret")
    os.symlink(tmp_path / "secret.txt", root / "out.txt")
    os.symlink(tmp_path, root / "outside")
    os.symlink(root / "b" / "f.txt", root / "in.txt")
    os.symlink(root, root / "loop")
    os.symlink(root / "nothing", root / "broken")
    os.mkfifo(root / "pipe")  # opening it would wait for ever
    assert [tree.size(p) for p in ("out.txt", "outside/secret.txt", "broken", "pipe")] == [None] * 4
    assert tree.size("in.txt") == 300
    assert tree.read("in.txt", most=400) == FILES["b/f.txt"]
    assert sorted(tree.walk()) == sorted([*FILES, "in.txt"])


def test_a_place_that_is_no_tree_is_told(tmp_path: Path, s3_storage: dict[str, str]) -> None:
    for root in (None, str(tmp_path / "none")):
        with pytest.raises(BadInput, match=r"cohort\.root"):
            open_tree(root)
    with pytest.raises(BadInput, match="s3://"):
        open_tree("ftp://host/films")
    with pytest.raises(BadInput, match="a prefix that holds files"):
        open_tree(f"s3://cars/{uuid.uuid4().hex}", storage=s3_storage)
    with pytest.raises(BadInput, match=r"cohort\.root"):
        open_tree("s3://no-such-bucket/films", storage=s3_storage)


@given(st.text(max_size=40))
def test_any_text_can_be_asked_for(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    root = tmp_path_factory.getbasetemp() / "asked"
    root.mkdir(exist_ok=True)
    assert open_tree(str(root)).size(path) is None
