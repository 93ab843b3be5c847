"""The page of a cohort: what was taken in, repaired and set aside, why, and what it looks like."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
from markupsafe import Markup

from cars_core.lake.lake import Lake
from cars_core.report.page import page_style, template
from cars_core.report.pictures import data_uri, decode, fit, jpeg
from cars_core.vocabulary import Vocabulary

SHOWN = 24        # pictures of a reason
THUMBNAIL = 144   # pixels, longer side
#: status -> how the page calls it; in the order of the page's columns.
STATUS_WORDS = {"accepted": "accepted", "set_aside": "set aside", "quarantined": "quarantined", "unread": "not read"}
_COLUMNS = ["dataset", "status", "reason", "flags", "object", "patient", "record", "present", "absent", "uncertain",
            "licence"]


def reason_of(row: dict[str, Any]) -> str:
    """The reason of a row without its own place in its source."""
    return str(row["reason"] or "").split(": ", 1)[-1]


def status_table(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a dataset and status, flags and reasons apart: {dataset, status, why, films}, the most films first.

    A flagged film is accepted; `why` holds its flags. Other accepted films have an empty `why`.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        why = "; ".join(row["flags"]) if row["status"] == "accepted" else reason_of(row)
        counts[row["dataset"], row["status"], why] += 1
    order = list(STATUS_WORDS)
    return [{"dataset": d, "status": s, "why": w, "films": n} for (d, s, w), n in
            sorted(counts.items(), key=lambda x: (x[0][0], order.index(x[0][1]), -x[1], x[0][2]))]


def cohort_page(lake: Lake, *, cohort: str, name: str, vocabulary: Vocabulary, code: str, created: str) -> str:
    """Write the page of a cohort (given by its digest) to the lake; returns its address."""
    rows = lake.read("cohort", columns=_COLUMNS, where={"cohort": cohort}).sort_by("record")
    html = render_cohort(rows, name=name, cohort=cohort, vocabulary=vocabulary, get=lake.get, code=code,
                         created=created)
    return lake.write_page(f"cohort-{name}-{cohort[:12]}.html", html.encode())


def render_cohort(rows: pa.Table, *, name: str, cohort: str, vocabulary: Vocabulary, get: Callable[[str], bytes],
                  code: str, created: str) -> str:
    """The page as one string of HTML without outside references.

    Args:
        rows: of the table `cohort`.
        get: object name -> bytes.
    """
    films = rows.to_pylist()
    pictured: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in films:
        whys = row["flags"] if row["status"] == "accepted" else [reason_of(row)]
        for why in whys:
            pictured[row["status"], why].append(row)
    groups = [{"status": STATUS_WORDS[status], "why": why, "films": len(those), "datasets": Counter(
                   r["dataset"] for r in those).most_common(),
               "pictures": [_picture(r, get) for r in those[:SHOWN] if r["object"]]}
              for (status, why), those in sorted(pictured.items(), key=lambda x: (x[0][0], -len(x[1]), x[0][1]))]
    counts = Counter(r["status"] for r in films)
    usable = [r for r in films if r["status"] in ("accepted", "unread")]
    findings = [{"name": f.name.replace("_", " "), **{s: sum(r[s] >> f.bit & 1 for r in usable) for s in
                                                     ("present", "uncertain", "absent")}} for f in vocabulary.findings]
    return str(template("cohort.html").render(
        name=name, cohort=cohort, code=code, created=created, style=Markup(page_style()), counts=counts,
        words=STATUS_WORDS, patients=len({r["patient"] for r in usable}), table=status_table(films), groups=groups,
        shown=SHOWN, usable=len(usable),
        findings=[f for f in findings if f["present"] or f["uncertain"] or f["absent"]],
        licences=Counter(r["licence"] for r in films).most_common()))


def _picture(row: dict[str, Any], get: Callable[[str], bytes]) -> dict[str, str]:
    return {"uri": data_uri(jpeg(fit(decode(get(row["object"])), THUMBNAIL), quality=80)), "record": row["record"],
            "dataset": row["dataset"]}
