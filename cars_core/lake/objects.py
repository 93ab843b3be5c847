"""Immutable bytes named by their sha256, over any storage. Loads no table library."""

from __future__ import annotations

import re

from cars_core.digest import bytes_digest
from cars_core.lake.storage import Storage
from schemas.errors import BadInput

_SHA = re.compile(r"[0-9a-f]{64}")


class DamagedObject(RuntimeError):
    """An object's bytes are not those its name promises."""


class MissingObject(FileNotFoundError):
    """The lake holds no object of this name."""


class Objects:
    """The objects of the lake at one storage; can be pickled and sent to a worker."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def put(self, data: bytes) -> str:
        """Keep bytes; returns their sha256 (hex).

        Writes even when the name is taken: it mends a damaged object, and a sweep of unreferenced
        objects by age must not take one that a running build has just named again.
        """
        sha = bytes_digest(data)
        self._storage.write(_object_name(sha), data)
        return sha

    def get(self, sha: str) -> bytes:
        """The bytes of an object, checked against its name.

        Raises:
            MissingObject: nothing of this name. DamagedObject: the bytes differ from the name.
            BadInput: not 64 lower-case hex digits.
        """
        name = _object_name(sha)
        try:
            data = self._storage.read(name)
        except FileNotFoundError as e:
            raise MissingObject(f"object {sha} is not in the lake {self._storage.root}") from e
        if (found := bytes_digest(data)) != sha:
            raise DamagedObject(
                f"object {sha} in the lake {self._storage.root} is damaged: its bytes have the sha256 {found}")
        return data

    def exists(self, sha: str) -> bool:
        """Whether an object of this name is there (its bytes are not checked)."""
        return self._storage.exists(_object_name(sha))


def _object_name(sha: str) -> str:
    if not _SHA.fullmatch(sha):
        raise BadInput("object", sha, "64 lower-case hex digits of a sha256")
    return f"objects/sha256/{sha[:2]}/{sha}"
