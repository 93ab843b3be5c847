"""Versioned subsets: accepted samples published whole or not at all.

A version is one row of the `subsets` table. Its members are written before it, under the digest of
their content; rows of `members` that no committed version names are litter nobody reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pds

from cars_core.digest import digest
from schemas.errors import BadInput
from schemas.tables import MEMBERS, SAMPLES, SUBSETS

if TYPE_CHECKING:
    from cars_core.lake.lake import Lake

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
CONTENT = ("edit_id", "object", "mask", "image_id", "operations", "present", "absent", "uncertain", "licence")
"""What a subset's digest covers: what was made, of what, and under which terms; not who built it when."""


class DamagedSubset(RuntimeError):
    """The rows found for a published version are not the rows that were published."""


@dataclass(frozen=True)
class Published:
    """A version of a subset; `new` is False when this content had been published before."""

    subset: str
    version: int
    digest: str
    new: bool


def subset_digest(rows: pa.Table) -> str:
    """sha256 (hex) over the CONTENT of samples, sorted by edit_id: independent of row order and files."""
    content = rows.select(list(CONTENT)).to_pylist()
    return digest(sorted(content, key=lambda row: row["edit_id"]))


def publish(lake: Lake, *, subset: str, build: str, cohort: str, rows: pa.Table, planned: int, rejected: int,
            recipe: dict[str, Any], code: str, created: datetime,
            before_commit: Callable[[], None] | None = None) -> Published:
    """Publish accepted samples as the next version of a subset.

    Content equal to any earlier version of the subset publishes nothing and returns that version.
    Publishers may run at once: different content gets different versions, equal content one. A
    publisher killed at any moment leaves either the whole version or nothing to be seen.

    Args:
        subset: letters, digits, `.`, `_`, `-`, as a recipe's name.
        build, cohort: digests of the build and of the cohort it edited.
        rows: accepted samples of this build (schema SAMPLES), each edit once, with object and mask.
        planned, rejected: counts of the build, kept beside the version.
        recipe: plain JSON. code: version of the code.
        created: with a time zone.
        before_commit: called when the members are written and the version is not yet visible; for
            a last check, whose exception stops the publication, and for tests of a crash there.

    Raises:
        BadInput: rows or arguments other than the above.
        cars_core.lake.lake.LakeBusy: lost every race for a commit.
    """
    _check(subset, build, rows, created)
    content = subset_digest(rows)
    known = _version_of(lake.read("subsets", where={"subset": subset}), content)
    if known is not None:
        return Published(subset, known, content, new=False)
    edits = rows["edit_id"].to_pylist()
    members = pa.Table.from_pylist(
        [{"subset": subset, "digest": content, "build": build, "edit_id": e} for e in edits], schema=MEMBERS)
    lake.append("members", members, key=f"members:{subset}:{content}:{build}")
    if before_commit is not None:
        before_commit()
    row = {"subset": subset, "digest": content, "build": build, "cohort": cohort, "planned": planned,
           "accepted": rows.num_rows, "rejected": rejected, "recipe": json.dumps(recipe, sort_keys=True),
           "code": code, "licences": sorted(set(rows["licence"].to_pylist())), "created": created}
    for _ in lake.retrying("subsets"):
        # The versions are read from the very snapshot that is committed on, and every version of a
        # subset is a transaction of one application: if another publisher got in between, Delta
        # refuses this commit, and the new snapshot is read.
        delta = lake.delta_table("subsets")
        versions = lake.snapshot("subsets", delta).to_table(filter=pds.field("subset") == subset)
        known = _version_of(versions, content)
        if known is not None:
            return Published(subset, known, content, new=False)
        version = max(versions["version"].to_pylist(), default=0) + 1
        table = pa.Table.from_pylist([{**row, "version": version}], schema=SUBSETS)
        if lake.commit(delta, table, app=f"subset:{subset}", version=version):
            return Published(subset, version, content, new=True)
    raise AssertionError  # retrying ends by raising


def subset_rows(lake: Lake, subset: str, version: int) -> pa.Table:
    """The samples of a published version (schema SAMPLES), sorted by edit_id.

    Raises:
        BadInput: no such version. DamagedSubset: the rows do not have the published digest.
    """
    versions = lake.read("subsets", where={"subset": subset})
    at = pc.index(versions["version"], version).as_py() if versions.num_rows else -1
    if at < 0:
        known = sorted(versions["version"].to_pylist())
        found = ", ".join(f"{subset}@{v}" for v in known) or ", ".join(
            sorted(set(lake.read("subsets", columns=["subset"])["subset"].to_pylist()))) or "a published subset"
        raise BadInput("subset", f"{subset}@{version}", f"one of {found}" if known else found)
    entry = versions.slice(at, 1).to_pylist()[0]
    key = {k: entry[k] for k in ("subset", "digest", "build")}
    edits = lake.read("members", columns=["edit_id"], where=key)["edit_id"].combine_chunks()
    samples = lake.dataset("samples").to_table(filter=(
        (pds.field("build") == entry["build"]) & (pds.field("verdict") == "accepted")
        & pds.field("edit_id").isin(edits))).cast(SAMPLES).sort_by("edit_id")
    # A shard that ran twice may have left its rows twice.
    ids = samples["edit_id"].to_pylist()
    samples = samples.filter(pa.array([i == 0 or e != ids[i - 1] for i, e in enumerate(ids)], pa.bool_()))
    if subset_digest(samples) != entry["digest"]:
        raise DamagedSubset(f"{subset}@{version} in the lake {lake.uri}: {samples.num_rows} of {entry['accepted']} "
                            f"samples found, and they do not have the published digest {entry['digest']}")
    return samples


def _version_of(versions: pa.Table, content: str) -> int | None:
    found = versions.filter(pc.equal(versions["digest"], content))["version"].to_pylist()
    return min(found) if found else None


def _check(subset: str, build: str, rows: pa.Table, created: datetime) -> None:
    where = f"subset {subset}"
    if not NAME.fullmatch(subset):
        raise BadInput("subset", subset, "a name of lower-case letters, digits, ., _ and -")
    if created.tzinfo is None:
        raise BadInput(f"{where}: created", created.isoformat(), "a time with its zone")
    missing = [n for n in SAMPLES.names if n not in rows.column_names]
    if missing:
        raise BadInput(f"{where}: rows", "without " + ", ".join(missing), "the columns of samples")
    if not rows.num_rows:
        raise BadInput(where, "no accepted sample", "at least one")
    for column, only in (("build", build), ("verdict", "accepted")):
        other = set(rows[column].to_pylist()) - {only}
        if other:
            raise BadInput(f"{where}: {column}", str(min(other, key=str)), f"only {only}")
    for column in ("edit_id", "object", "mask"):
        if rows[column].null_count:
            raise BadInput(f"{where}: {column}", "null", "an accepted sample's " + column)
    if pc.count_distinct(rows["edit_id"]).as_py() < rows.num_rows:
        raise BadInput(f"{where}: edit_id", "an edit twice", "each edit once")
