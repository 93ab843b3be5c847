"""Where a lake keeps its bytes: a local folder or an S3 prefix, described by one setting.

The setting is a URI and delta-rs' option names; the same values feed delta-rs (tables) and s3fs
(objects and pages), so both always look at the same place with the same rights.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.fs as pa_fs

from schemas.errors import BadInput

STORAGE_KEYS = frozenset({
    "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
    "AWS_ALLOW_HTTP",
})
"""Options a storage setting may hold (delta-rs' names)."""


class Storage(ABC):
    """Named bytes under one root. Names are relative, with `/` between parts.

    A write is atomic: a reader sees the old bytes, the new bytes or nothing, never a part.
    """

    WRITABLE: ClassVar[str] = "a folder that can be written"

    def __init__(self, root: str, options: Mapping[str, str]) -> None:
        self.root, self.options = root, dict(options)

    def uri(self, name: str) -> str:
        """The full address of a name."""
        return f"{self.root}/{name}"

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write bytes, in place of what was there. Raises OSError where the store refuses."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError where there is nothing."""

    @abstractmethod
    def exists(self, name: str) -> bool: ...

    @abstractmethod
    def remove(self, name: str) -> None: ...

    def require_room(self, size: int) -> None:
        """Raises OSError (ENOSPC) where `size` bytes more would not fit: the table writer panics on a full disk."""
        return

    @abstractmethod
    def arrow(self, name: str) -> pa_fs.FileSystem:
        """Arrow's own file system, rooted at a name, for reading table files.

        Never one that calls back into Python, as delta-rs' default does: Arrow's threads let go of it when they
        please, and where that is while the interpreter ends, the process aborts after its work is done.
        """

    def probe(self) -> None:
        """Write, read and remove a small file.

        Raises:
            BadInput: the root cannot be created or written.
        """
        name = f".probe-{uuid.uuid4().hex}"
        try:
            self.write(name, b"cars")
            held = self.read(name)
            self.remove(name)
        except Exception as e:  # botocore's errors share no base with OSError
            reason = getattr(e, "strerror", None) or str(e)
            raise BadInput("lake", self.root, f"{self.WRITABLE} ({' '.join(reason.split())[:160]})") from e
        if held != b"cars":
            raise BadInput("lake", self.root, self.WRITABLE)


class LocalStorage(Storage):
    """A folder. `root` is absolute."""

    def write(self, name: str, data: bytes) -> None:
        path = Path(self.root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened under a name nobody else has, beside its goal: a rename inside one file system is atomic.
        # No fsync: an object that a power cut empties is found by its digest and made again.
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            part.write_bytes(data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        return Path(self.root, name).read_bytes()

    def exists(self, name: str) -> bool:
        return Path(self.root, name).is_file()

    def arrow(self, name: str) -> pa_fs.FileSystem:
        return pa_fs.SubTreeFileSystem(self.uri(name), pa_fs.LocalFileSystem())

    def require_room(self, size: int) -> None:
        there = next(p for p in (Path(self.root), *Path(self.root).parents) if p.exists())
        if shutil.disk_usage(there).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.root)

    def remove(self, name: str) -> None:
        Path(self.root, name).unlink(missing_ok=True)


class S3Storage(Storage):
    """A prefix of a bucket: `s3://bucket/prefix`. A put is atomic by S3's own promise."""

    WRITABLE = "a bucket and prefix that can be written"

    def __init__(self, root: str, options: Mapping[str, str]) -> None:
        super().__init__(root, options)
        self._fs: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fs": None}  # an open client does not cross to another process

    def filesystem(self) -> Any:
        """The s3fs file system, opened once a process."""
        if self._fs is None:
            import s3fs  # half a second that a local lake need not pay

            o = self.options
            self._fs = s3fs.S3FileSystem(
                key=o.get("AWS_ACCESS_KEY_ID"), secret=o.get("AWS_SECRET_ACCESS_KEY"),
                token=o.get("AWS_SESSION_TOKEN"), endpoint_url=o.get("AWS_ENDPOINT_URL"),
                client_kwargs={"region_name": o["AWS_REGION"]} if "AWS_REGION" in o else {},
                use_listings_cache=False,  # other processes write to the same prefix
            )
        return self._fs

    def write(self, name: str, data: bytes) -> None:
        self.filesystem().pipe_file(self.uri(name), data)

    def read(self, name: str) -> bytes:
        return bytes(self.filesystem().cat_file(self.uri(name)))

    def exists(self, name: str) -> bool:
        return bool(self.filesystem().exists(self.uri(name)))

    def remove(self, name: str) -> None:
        self.filesystem().rm_file(self.uri(name))

    def arrow(self, name: str) -> pa_fs.FileSystem:
        o = self.options
        s3 = pa_fs.S3FileSystem(
            access_key=o.get("AWS_ACCESS_KEY_ID"), secret_key=o.get("AWS_SECRET_ACCESS_KEY"),
            session_token=o.get("AWS_SESSION_TOKEN"), region=o.get("AWS_REGION"),
            endpoint_override=o.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL"))
        return pa_fs.SubTreeFileSystem(self.uri(name).removeprefix("s3://"), s3)


def open_storage(uri: str, options: Mapping[str, str] | None = None) -> Storage:
    """The storage a URI names: a local path (or file://...), or s3://bucket/prefix. Touches nothing.

    Args:
        uri: where the lake is.
        options: STORAGE_KEYS -> value; what is not given is left to the S3 clients' own defaults.

    Raises:
        BadInput: another scheme, an empty path, an S3 address without a prefix, an unknown option.
    """
    options = options or {}
    for key in options:
        if key not in STORAGE_KEYS:
            raise BadInput("storage", key, "one of " + ", ".join(sorted(STORAGE_KEYS)))
    scheme, sep, rest = uri.partition("://")
    if not sep or scheme == "file":
        path = rest if sep else uri
        if not path.strip():
            raise BadInput("lake", uri, "a folder or s3://bucket/prefix")
        return LocalStorage(str(Path(path).expanduser().resolve()), options)
    bucket, _, prefix = rest.strip("/").partition("/")
    if scheme != "s3" or not bucket or not prefix:
        raise BadInput("lake", uri, "a folder or s3://bucket/prefix")
    return S3Storage(f"s3://{bucket}/{prefix}", options)
