"""Tables of reports: no row is lost, none is moved, and a file is whole or not there."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from cars_core.reports import table as module
from cars_core.reports.rows import concept_names
from cars_core.reports.table import label_columns, label_table
from cars_core.vocabulary import load_vocabulary
from schemas.errors import BadInput

V = load_vocabulary()
LABELS = label_columns(V)


def read(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(100_000_000)
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def write(path: Path, *rows: list[str]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as f:
        csv.writer(f).writerows(rows)
    return path


def labelled(tmp_path: Path, *rows: list[str], workers: int = 1) -> list[dict[str, str]]:
    source = write(tmp_path / "in.csv", ["id", "report"], *rows)
    label_table(source, tmp_path / "out.csv", workers=workers)
    return read(tmp_path / "out.csv")


def test_the_inputs_columns_come_first_then_labels_then_evidence(tmp_path: Path) -> None:
    (row,) = labelled(tmp_path, ["7", "Small left effusion.\nNo edema, possible pneumonia. \"Quoted\", é"])
    assert list(row) == ["id", "report", *LABELS, "evidence"]
    assert len(LABELS) == 14 + 14 + len(concept_names(V)) and row["id"] == "7"
    assert (row["nih_Effusion"], row["nih_Edema"], row["nih_Pneumonia"], row["nih_Mass"]) == ("1", "0", "-1", "")
    assert row["chexpert_Pleural Effusion"] == row["concept_effusion"] == "1" and row["chexpert_No Finding"] == ""
    said = json.loads(row["evidence"])
    assert ["effusion", "present", 11, 19, "effusion", "left", "mild"] in said
    for _, _, start, end, text, _, _ in said:
        assert row["report"][start:end] == text


def test_rows_keep_their_order_with_any_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", 3)
    rows = [[str(i), ("Left effusion.", "No edema.", "", "Mass.")[i % 4] + f" {i} cm."] for i in range(41)]
    one = labelled(tmp_path, *rows)
    two = labelled(tmp_path, *rows, workers=2)
    assert one == two and [r["id"] for r in one] == [str(i) for i in range(41)]
    assert [r["nih_Effusion"] for r in one[:4]] == ["1", "", "", ""]


def test_progress_ends_at_the_number_of_reports(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ["report"], *[["Edema."]] * 600)
    seen: list[tuple[int, int]] = []
    made = label_table(source, tmp_path / "out.csv", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (600, 600) and [d for d, _ in seen] == sorted(d for d, _ in seen)
    assert (made.rows, made.empty, made.faults) == (600, 0, 0) and made.counts["nih_Edema"] == [600, 0, 0]


def test_a_row_of_the_wrong_length_costs_no_other_row(tmp_path: Path) -> None:
    rows = labelled(tmp_path, ["1", "Edema."], ["2"], ["3", "Edema.", "more"], ["4", "Mass."])
    assert [r["id"] for r in rows] == ["1", "2", "3", "4"]
    assert [r["nih_Edema"] for r in rows] == ["1", "", "", ""] and rows[3]["nih_Mass"] == "1"
    for row, fields, line in ((rows[1], 1, 3), (rows[2], 3, 4)):
        assert json.loads(row["evidence"]) == {"fault": f"line {line}: {fields} fields where the header has 2"}
        assert not any(row[name] for name in LABELS)


def test_an_empty_report_has_empty_labels(tmp_path: Path) -> None:
    rows = labelled(tmp_path, ["1", ""], ["2", "  "])
    assert all(not any(row[name] for name in LABELS) and row["evidence"] == "[]" for row in rows)


def test_a_report_of_ten_megabytes_is_read(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ["report"], ["lorem ipsum " * 900_000 + ". Left effusion."])
    limit = csv.field_size_limit(131_072)
    made = label_table(source, tmp_path / "out.csv")
    assert made.counts["nih_Effusion"] == [1, 0, 0]
    assert csv.field_size_limit(limit) == 131_072  # others' limit is as it was


def test_a_byte_order_mark_and_other_line_ends_are_accepted(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(b'\xef\xbb\xbfreport,id\r\n"Edema.\r\nMass.",1\r\n\r\nNo edema.,2')
    label_table(source, tmp_path / "out.csv")
    rows = read(tmp_path / "out.csv")
    assert [(r["id"], r["nih_Edema"], r["nih_Mass"]) for r in rows] == [("1", "1", "1"), ("2", "0", "")]
    assert rows[0]["report"] == "Edema.\r\nMass."


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"id,text\n1,a\n", r"got report; expected a column of that name among the 2 of the first row$"),
        (b"id,Reports\n1,a\n", r"among the 2 of the first row; is it Reports\?"),
        (b"", "an empty file"),
        (b"report,nih_Edema\na,1\n", "got nih_Edema; expected no column"),
        (b"report,evidence\na,1\n", "got evidence"),
        (b"report,x,x\na,1,2\n", "got columns 2 and 3 of one name"),
        (b"report\nok\nna\xefve\n", r"line 3: got byte 0xEF at place 3; expected text in UTF-8"),
        ("report\nEdema\n".encode("utf-16"), "line 1"),
        (b"report\nok\na\x00b\n", "line 3: got a NUL byte"),
        (b'report,id\nok,1\n"never closed,2\nmore,3\n', "line 3: got a quote that is never closed"),
        (b"report\rok\r", "expected a row of CSV"),
    ],
)
def test_a_wrong_file_is_one_line_and_leaves_no_output(tmp_path: Path, content: bytes, says: str) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(content)
    with pytest.raises(BadInput, match=says):
        label_table(source, tmp_path / "out.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize("first", [b"DOE^JOHN,Small effusion\n", b"DOE JOHN,DOE JOHN\n", b"19410203,report7\n"])
def test_a_first_row_that_is_a_patients_is_not_told(tmp_path: Path, first: bytes) -> None:
    (tmp_path / "in.csv").write_bytes(first)
    with pytest.raises(BadInput) as told:
        label_table(tmp_path / "in.csv", tmp_path / "out.csv")
    assert not any(cell in str(told.value) for cell in first.decode().strip().split(","))


def test_a_wrong_place_is_one_line(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ["report"], ["Edema."])
    for target in (tmp_path / "none" / "out.csv", tmp_path, source):
        with pytest.raises(BadInput, match="output"):
            label_table(source, target)
    with pytest.raises(BadInput, match="a CSV file that can be read"):
        label_table(tmp_path / "none.csv", tmp_path / "out.csv")
    for workers in (0, 65):
        with pytest.raises(BadInput, match="1 to 64"):
            label_table(source, tmp_path / "out.csv", workers=workers)
    assert source.read_text() == "report\nEdema.\n"


def test_a_run_that_is_cut_off_leaves_what_was_there_before(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ["report"], *[["Edema."]] * 600)
    target = tmp_path / "out.csv"
    target.write_text("before")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_table(source, target, progress=stop)
    assert target.read_text() == "before" and sorted(p.name for p in tmp_path.iterdir()) == ["in.csv", "out.csv"]
