"""Damage that knows nothing of the format."""

from __future__ import annotations

from collections.abc import Callable

from numpy.random import Generator


def pick(rng: Generator, choices: list | tuple):  # type: ignore[type-arg, no-untyped-def]
    """One of the choices."""
    return choices[int(rng.integers(len(choices)))]


def _place(rng: Generator, data: bytes) -> int:
    """A position; half of the time among the first 1,024 bytes, where headers lie."""
    most = min(len(data), 1024) if rng.random() < 0.5 else len(data)
    return int(rng.integers(max(most, 1)))


def truncate(rng: Generator, data: bytes) -> bytes:
    return data[:_place(rng, data)]


def flip_bits(rng: Generator, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(int(2 ** rng.integers(0, 8)) if out else 0):
        out[_place(rng, data)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def swap_blocks(rng: Generator, data: bytes) -> bytes:
    size = int(2 ** rng.integers(1, 11))
    a, b = sorted((_place(rng, data), _place(rng, data)))
    b = max(b, a + size)
    return data[:a] + data[b:b + size] + data[a + size:b] + data[a:a + size] + data[b + size:]


def overwrite(rng: Generator, data: bytes) -> bytes:
    at, size = _place(rng, data), int(2 ** rng.integers(0, 10))
    filled = pick(rng, (b"\0" * size, b"\xff" * size, rng.bytes(size)))
    return data[:at] + filled + data[at + size:]


def insert(rng: Generator, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.bytes(int(2 ** rng.integers(0, 10))) + data[at:]


def delete(rng: Generator, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + int(2 ** rng.integers(0, 10)):]


def repeat(rng: Generator, data: bytes) -> bytes:
    at, size = _place(rng, data), int(2 ** rng.integers(2, 10))
    return data[:at] + data[at:at + size] * int(2 ** rng.integers(1, 9)) + data[at:]


def rubbish(rng: Generator, data: bytes) -> bytes:
    """Nothing of the file: its first bytes at most."""
    return data[:int(rng.integers(0, 140))] + rng.bytes(int(2 ** rng.integers(0, 14)))


MUTATIONS: dict[str, Callable[[Generator, bytes], bytes]] = {
    "truncated": truncate, "bits flipped": flip_bits, "blocks swapped": swap_blocks, "block overwritten": overwrite,
    "bytes inserted": insert, "bytes deleted": delete, "block repeated": repeat, "rubbish": rubbish}
