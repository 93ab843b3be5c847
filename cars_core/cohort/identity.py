"""Pseudonyms and splits: what stands for a patient once a film is in the lake.

A pseudonym is an HMAC-SHA256 (RFC 2104) of the identifier under a key that never leaves ingest, so
nobody without the key can go from a row back to a patient, or test a guess. A split is a pure function
of the patient's pseudonym: films and patients added later move nobody.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from schemas.errors import BadInput
from schemas.recipe import Cohort, Splits

MIN_KEY_BYTES = 16
_HEX = 16  # 64 bits: among a million names, two share a pseudonym with probability 3e-8


def pseudonym_key(cohort: Cohort, *, seed: int, secret: str | None = None) -> bytes:
    """The key of a cohort's pseudonyms.

    `cohort.key_file` holds it (line ends after it are dropped), or `secret` is it, where `cohort.key_secret` names one.
    Where identifiers need no secrecy, that is with `public_ids` or the phantom, and neither is named, it is derived
    from the recipe's `seed`.

    Raises:
        BadInput: the file cannot be read, a secret is named and not given, or the key has under 16 bytes. The message
            never shows what it holds.
    """
    if cohort.key_secret is not None:
        if secret is None:
            raise BadInput("recipe: cohort.key_secret", cohort.key_secret, "a secret that can be read")
        where, key = "recipe: cohort.key_secret", secret.encode().rstrip(b"\r\n")
    elif cohort.key_file is not None:
        path = Path(cohort.key_file)
        try:
            where, key = "recipe: cohort.key_file", path.read_bytes().rstrip(b"\r\n")
        except OSError as e:
            raise BadInput("recipe: cohort.key_file", str(path), f"a readable file ({e.strerror})") from e
    elif any(s.source != "phantom" and not s.public_ids for s in cohort.sources):
        raise BadInput("recipe: cohort.key_file", "nothing",
                       "a file with the pseudonym key (or key_secret), or public_ids: true")
    else:
        return hashlib.sha256(f"cars pseudonym key {seed}".encode()).digest()
    if len(key) < MIN_KEY_BYTES:
        raise BadInput(where, f"a key of {len(key)} bytes", f"at least {MIN_KEY_BYTES} bytes")
    return key


def pseudonym(key: bytes, kind: str, value: str) -> str:
    """Keyed pseudonym of `value`: the first letter of `kind`, then 16 hex characters.

    The same value of another `kind` (patient, record) has an unrelated pseudonym.
    """
    return kind[0] + hmac.digest(key, f"{kind}\0{value}".encode("utf-8", "surrogatepass"), "sha256").hex()[:_HEX]


def key_fingerprint(key: bytes) -> str:
    """16 hex characters that change with the key and do not give it away; part of the cohort's digest."""
    return pseudonym(key, "key", "fingerprint")[1:]


def split_of(patient_pseudonym: str, splits: Splits) -> str:
    """train, validate or test, by a hash of the pseudonym against the cumulative shares.

    The pseudonym is keyed already, so the hash is. A share of 0 gets nobody.
    """
    point = int.from_bytes(hashlib.sha256(f"split {patient_pseudonym}".encode()).digest()[:8]) / 2**64
    shares = [(n, s) for n, s in (("train", splits.train), ("validate", splits.validate_), ("test", splits.test)) if s]
    edge = 0.0
    for name, share in shares[:-1]:
        edge += share
        if point < edge:
            return name
    return shares[-1][0]  # the last share takes what rounding leaves
