"""Links between the repository's pages: a reader who follows one must arrive."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "cars_core/weights/README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_and_picture_of_a_page_is_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    inside = [t for t in targets if "://" not in t]
    assert not [t for t in inside if not (page.parent / t).exists()]
    for command in re.findall(r"python ((?:docs|benchmarks)/\w+\.py)", page.read_text(encoding="utf-8")):
        assert (ROOT / command).is_file(), command
