"""Open-i's codes are read as what they state, and an archive that is not these reports is refused, not guessed at."""

from __future__ import annotations

import importlib.util
import io
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from xml.sax.saxutils import escape

import pytest

from schemas.errors import BadInput

_PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "openi.py"


@pytest.fixture(scope="module")
def openi() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_openi", _PATH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _xml(uid: int, *major: str, findings: str = "", impression: str = "Stable chest.") -> str:
    texts = {"COMPARISON": "", "INDICATION": "Cough", "FINDINGS": findings, "IMPRESSION": impression}
    return ('<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="CXR' + str(uid) + '"/><MedlineCitation><Article>'
            "<Abstract>" + "".join(f'<AbstractText Label="{k}">{escape(v)}</AbstractText>' for k, v in texts.items())
            + "</Abstract></Article></MedlineCitation><MeSH>" + "".join(f"<major>{escape(m)}</major>" for m in major)
            + "<automatic>a guess</automatic></MeSH><parentImage/><parentImage/></eCitation>")


def _wheel(folder: Path, *files: str | bytes, inside: str = "torchxrayvision/data/NLMCXR_reports.tgz",
           cut: int | None = None) -> Path:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for i, text in enumerate(files):
            raw = text if isinstance(text, bytes) else text.encode()
            info = tarfile.TarInfo(f"ecgen-radiology/{i}.xml")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    path = folder / "a.whl"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr(inside, packed.getvalue()[:cut])
    return path


def test_reports_come_by_number_with_their_sections_under_headings(openi: ModuleType, tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, _xml(12, "normal", findings="Clear lungs & heart < 15 cm."), _xml(3, "Mass/lung"))
    first, second = openi.read_openi(wheel)
    assert (first.uid, first.half, first.major, first.automatic, first.images) == (
        3, "held-out", ("Mass/lung",), ("a guess",), 2)
    assert second.half == "develop"
    assert second.text == "INDICATION: Cough\n\nFINDINGS: Clear lungs & heart < 15 cm.\n\nIMPRESSION: Stable chest."


@pytest.mark.parametrize(("codes", "stated", "unsure"), [
    (["Pulmonary Atelectasis/base/left"], {"Atelectasis"}, set()),
    (["Cardiomegaly"], {"Cardiomegaly"}, set()),
    (["Cardiomegaly/borderline"], {"Cardiomegaly"}, {"Cardiomegaly"}),
    (["Cardiomegaly/borderline", "Cardiac Shadow/enlarged"], {"Cardiomegaly"}, set()),
    (["Cardiac Shadow/obscured"], set(), set()),
    (["Hydropneumothorax/right"], {"Effusion", "Pneumothorax"}, set()),
    (["Pericardial Effusion"], set(), set()),
    (["Thickening/pleura/apex"], {"Pleural_Thickening"}, set()),
    (["Thickening/bronchi"], set(), set()),
    (["Subcutaneous Emphysema/neck", "Mediastinal Emphysema"], set(), set()),
    (["Mass/breast/large"], set(), {"Mass", "Nodule"}),
    (["Mass/breast/large", "Mass/lung"], {"Mass"}, {"Nodule"}),
    (["Nodule/lung/hilum/right"], {"Nodule"}, set()),
    (["Opacity/lung/base/left/round"], set(), {"Nodule"}),
    (["Opacity/lung/base/left"], set(), set()),
    (["Calcified Granuloma/lung", "Nodule/lung"], {"Nodule"}, set()),
    (["Cicatrix/lung/apex"], set(), {"Fibrosis"}),
    (["Airspace Disease/lung", "Pneumonia/base"], {"Pneumonia"}, {"Infiltration", "Consolidation"}),
    (["normal"], set(), set()),
])
def test_a_code_states_what_it_names_and_leaves_open_what_it_does_not(
        openi: ModuleType, tmp_path: Path, codes: list[str], stated: set[str], unsure: set[str]) -> None:
    (report,) = openi.read_openi(_wheel(tmp_path, _xml(2, *codes)))
    assert openi.gold(report) == stated
    assert openi.doubtful(report) == unsure


def test_every_name_the_codes_can_state_is_a_label_of_the_vocabulary_and_each_is_reached(openi: ModuleType) -> None:
    assert {n for code in openi.STATES for n in code.names} == set(openi.nih_names())
    assert {n for code in openi.DOUBTFUL for n in code.names} <= set(openi.nih_names())


def test_a_report_nobody_coded_or_without_a_text_is_not_scored(openi: ModuleType, tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, _xml(1, "No Indexing"), _xml(2, "normal", impression=""), _xml(3, "normal"))
    assert [r.scored for r in openi.read_openi(wheel)] == [False, False, True]


@pytest.mark.parametrize("bad", [
    _xml(1).replace("<eCitation>", '<!DOCTYPE e [<!ENTITY a "b">]><eCitation>', 1), _xml(1)[:-5], "<eCitation/>",
    _xml(1).replace("CXR1", "CXRone"), b"\xff\xfe" + _xml(1).encode("utf-16-le"), " " * ((1 << 20) + 1)])
def test_a_file_that_is_no_plain_report_is_refused_by_name(openi: ModuleType, tmp_path: Path, bad: str) -> None:
    with pytest.raises(BadInput, match=r"ecgen-radiology/1\.xml"):
        list(openi.read_openi(_wheel(tmp_path, _xml(4), bad)))


def test_what_is_no_wheel_of_these_reports_is_refused_in_one_line(openi: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="torchxrayvision wheel"):
        list(openi.read_openi(tmp_path / "none.whl"))
    with pytest.raises(BadInput, match="torchxrayvision wheel"):
        list(openi.read_openi(_wheel(tmp_path, _xml(1), inside="other/reports.tgz")))
    with pytest.raises(BadInput, match="gzipped tar"):
        list(openi.read_openi(_wheel(tmp_path, _xml(1), cut=60)))
    with pytest.raises(BadInput, match="gzipped tar"):
        list(openi.read_openi(_wheel(tmp_path, _xml(1), cut=0)))
    (tmp_path / "text.whl").write_text("not a zip")
    with pytest.raises(BadInput, match="torchxrayvision wheel"):
        list(openi.read_openi(tmp_path / "text.whl"))
