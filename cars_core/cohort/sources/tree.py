"""Where a source's files lie: a local folder or an S3 prefix, read as one tree of relative paths.

Paths have `/` between their parts and never lead out: `..`, absolute paths and links to the outside are as good as
missing, whoever wrote them into a label file.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

from cars_core.lake.storage import S3Storage, open_storage
from schemas.errors import BadInput

_FOLDERS_KNOWN = 4096   # local folders remembered as lying inside
_LISTED = 400_000       # names of S3 listings held: films come folder by folder, or in any order within PadChest's 54
_LISTING_DEPTH = 2      # parts of a path whose whole subtree is listed at once: files/p10 of MIMIC-CXR-JPG


class Tree(ABC):
    """Files under one root. Can be sent to another process. `remote`: over a network, which may be away."""

    root: str
    remote: ClassVar[bool] = False

    @abstractmethod
    def size(self, path: str) -> int | None:
        """Bytes of the regular file at `path`; None where there is none, or where the path leads out."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """The file as a stream of bytes.

        Raises:
            OSError: not there, leads out, cannot be read.
        """

    @abstractmethod
    def children(self, folder: str = "") -> tuple[list[str], list[str]]:
        """Names of the folders and of the files right under `folder`, each sorted; empty where it does not exist."""

    def walk(self, folder: str = "") -> Iterator[str]:
        """Paths of all files below `folder`, in one order: a folder's files, then its folders', by name."""
        folders, files = self.children(folder)
        under = f"{folder}/" if folder else ""
        for name in files:
            yield under + name
        for name in folders:
            yield from self.walk(under + name)

    def head(self, path: str, *, most: int) -> bytes:
        """The first `most` bytes of a file, or all of a shorter one; no more is fetched.

        Raises:
            OSError: as `open` does.
        """
        with self.open(path) as file:
            return file.read(most)

    def read(self, path: str, *, most: int) -> bytes:
        """The bytes of a file.

        Raises:
            OSError: as `open` does; errno.EFBIG where it is over `most` bytes.
        """
        data = self.head(path, most=most + 1)
        if len(data) > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return data


def leads_out(path: str) -> bool:
    """Whether a path as a label file gives it is absolute or climbs: `/a`, `C:\\a`, `a/../../b`."""
    return path.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", path) or re.match(r"[A-Za-z]:", path) is not None


class LocalTree(Tree):
    """A local folder. Links are followed as long as they stay inside."""

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        self._inside: dict[str, bool] = {}

    def size(self, path: str) -> int | None:
        if not path or "\0" in path or leads_out(path):
            return None
        full = os.path.join(self.root, path)
        try:
            info = os.lstat(full)
        except (OSError, ValueError):  # not there; a name the system cannot hold
            return None
        parent = os.path.dirname(full)
        if parent not in self._inside:
            if len(self._inside) >= _FOLDERS_KNOWN:
                self._inside.clear()
            self._inside[parent] = self._holds(parent)
        if not self._inside[parent]:
            return None
        if stat.S_ISLNK(info.st_mode):
            if not self._holds(full):
                return None
            try:
                info = os.stat(full)
            except OSError:  # a link to nothing
                return None
        return info.st_size if stat.S_ISREG(info.st_mode) else None

    def open(self, path: str) -> BinaryIO:
        if self.size(path) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return open(os.path.join(self.root, path), "rb")

    def children(self, folder: str = "") -> tuple[list[str], list[str]]:
        full = os.path.join(self.root, folder)
        if (folder and leads_out(folder)) or not self._holds(full):
            return [], []
        folders, files = [], []
        try:
            with os.scandir(full) as entries:
                for entry in entries:
                    if entry.is_symlink() and not self._holds(entry.path):
                        continue
                    if entry.is_dir():
                        # A link to a folder above it would be walked for ever.
                        if not entry.is_symlink():
                            folders.append(entry.name)
                    elif entry.is_file():
                        files.append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        except PermissionError:  # its name may be somebody's
            raise BadInput("recipe: cohort.root", self.root, "folders below it that can all be read") from None
        return sorted(folders), sorted(files)

    def _holds(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real == self.root or real.startswith(self.root.rstrip(os.sep) + os.sep)


class S3Tree(Tree):
    """A prefix of a bucket. Sizes come from listings, a thousand names a request, not from a request a film."""

    remote = True

    def __init__(self, storage: S3Storage) -> None:
        self.root = storage.root
        self._storage = storage
        self._listings: dict[str, dict[str, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_listings": {}}

    def size(self, path: str) -> int | None:
        if not path or leads_out(path):
            return None
        head = "/".join(path.split("/")[:-1][:_LISTING_DEPTH])
        if head not in self._listings:
            listing = self._listing(head)
            while self._listings and sum(map(len, self._listings.values())) + len(listing) > _LISTED:
                del self._listings[next(iter(self._listings))]
            self._listings[head] = listing
        return self._listings[head].get(path)

    def _listing(self, head: str) -> dict[str, int]:
        """Path -> bytes of everything below a folder; of the root's own files only, for the root."""
        fs, base = self._storage.filesystem(), self.root.removeprefix("s3://")
        at = f"{base}/{head}" if head else base
        with _asked():
            found = fs.find(at, detail=True, maxdepth=None if head else 1)
        return {name[len(base) + 1:]: int(info["size"]) for name, info in found.items() if info["type"] == "file"}

    def open(self, path: str) -> BinaryIO:
        if leads_out(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        with _asked():
            return cast(BinaryIO, self._storage.filesystem().open(f"{self.root}/{path}", "rb"))

    def head(self, path: str, *, most: int) -> bytes:
        if leads_out(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        fs, name = self._storage.filesystem(), f"{self.root}/{path}"
        with _asked():
            try:
                return bytes(fs.cat_file(name, start=0, end=most))
            except OSError as e:
                if e.errno == errno.EINVAL and fs.size(name) == 0:  # no byte is in the range of an empty object
                    return b""
                raise

    def children(self, folder: str = "") -> tuple[list[str], list[str]]:
        fs, base = self._storage.filesystem(), self.root.removeprefix("s3://")
        at = f"{base}/{folder}" if folder else base
        try:
            with _asked():
                entries = fs.ls(at, detail=True)
        except FileNotFoundError:
            return [], []
        names = {"directory": [], "file": []}  # type: dict[str, list[str]]
        for entry in entries:
            name = entry["name"].rstrip("/").rsplit("/", 1)[-1]
            if entry["name"].rstrip("/") != at:  # some stores list a folder's own marker
                names[entry["type"]].append(name)
        return sorted(names["directory"]), sorted(names["file"])


def away(e: OSError, tree: Tree) -> bool:
    """Whether an error says that the place is away for the moment, and nothing of the one file."""
    return not isinstance(e, FileNotFoundError) and (tree.remote or e.errno in _AWAY)


#: A network mount that is gone, a process that has too many files open: not the film's fault.
_AWAY = frozenset({errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENODEV,
                   errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


@contextmanager
def _asked() -> Iterator[None]:
    """Turns what S3 clients raise into OSError without the key, which may hold a patient's number; botocore's errors
    share no base with it."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
    except Exception as e:
        raise OSError(errno.EIO, f"the store of the films cannot be read now ({type(e).__name__})") from None


def open_tree(root: str | None, *, storage: Mapping[str, str] | None = None) -> Tree:
    """The tree at a local folder or `s3://bucket/prefix`.

    Args:
        storage: lake.storage.STORAGE_KEYS -> value, for S3.

    Raises:
        BadInput: nothing given, no such folder, another scheme, a bucket that cannot be listed.
    """
    if root is not None and "://" in root and not root.startswith("file://"):
        held = open_storage(root, storage)
        assert isinstance(held, S3Storage)
        tree = S3Tree(held)
        try:
            there = tree.children()
        except Exception as e:  # botocore's errors share no base with OSError
            raise BadInput("recipe: cohort.root", root, f"a prefix that can be listed ({_words(e)})") from None
        if there == ([], []):
            raise BadInput("recipe: cohort.root", root, "a prefix that holds files")
        return tree
    path = None if root is None else root.removeprefix("file://")
    if path is None or not Path(path).is_dir():
        raise BadInput("recipe: cohort.root", root or "nothing", "the folder of the films, or s3://bucket/prefix")
    return LocalTree(path)


def _words(e: Exception) -> str:
    return " ".join((getattr(e, "strerror", None) or str(e)).split())[:160]
