"""Without these, two tables could disagree on what a column means, and a join would lie."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.tables import COHORT, GAPS, MEASURES, PLAN, SAMPLES, TABLES


def test_a_column_has_one_type_wherever_it_stands() -> None:
    types: dict[str, set[str]] = defaultdict(set)
    for schema in TABLES.values():
        for field in schema:
            types[field.name].add(str(field.type))
    assert {name: kinds for name, kinds in types.items() if len(kinds) > 1} == {}


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_names_each_column_once_and_survives_parquet(name: str, tmp_path: Path) -> None:
    schema = TABLES[name]
    assert len(set(schema.names)) == len(schema.names)
    pq.write_table(schema.empty_table(), tmp_path / "t.parquet")
    assert pq.read_schema(tmp_path / "t.parquet").equals(schema)


@pytest.mark.parametrize("schema", [COHORT, PLAN, SAMPLES], ids=["cohort", "plan", "samples"])
def test_vectors_are_signed_64_bit_and_never_null(schema: pa.Schema) -> None:
    for column in ("present", "absent", "uncertain"):
        assert schema.field(column).type == pa.int64()
        assert not schema.field(column).nullable


def test_a_sample_carries_what_its_plan_row_said() -> None:
    carried = {"build", "edit_id", "image_id", "patient", "operations", "source_present", "present", "absent",
               "uncertain", "gap", "without", "cell", "licence", "truth"}
    assert carried <= set(PLAN.names) & set(SAMPLES.names)
    assert set(MEASURES) <= set(SAMPLES.names)
    assert PLAN.field("gap").type == GAPS.field("gap").type


def test_licence_travels_with_every_film_and_edit() -> None:
    for name in ("cohort", "plan", "samples"):
        assert not TABLES[name].field("licence").nullable
