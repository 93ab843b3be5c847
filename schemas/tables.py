"""Arrow schemas of every table in the lake. A column means the same wherever it stands.

Finding vectors are three 64-bit masks (`present`, `absent`, `uncertain`), disjoint; bit i is finding i
of `findings.yaml`; a finding in none of them was not mentioned. Objects are named by the sha256 of
their bytes. Times are UTC.
"""

from __future__ import annotations

import pyarrow as pa

_VECTOR = [pa.field(n, pa.int64(), nullable=False) for n in ("present", "absent", "uncertain")]

OPERATION = pa.struct([
    pa.field("kind", pa.string(), nullable=False),       # insert | delete
    pa.field("finding", pa.string(), nullable=False),
    pa.field("side", pa.string(), nullable=False),       # left | right (the patient's) | both
    pa.field("severity", pa.float64(), nullable=False),  # 0..1
])

COHORT = pa.schema([
    pa.field("cohort", pa.string(), nullable=False),     # digest of what was ingested and how
    pa.field("record", pa.string(), nullable=False),     # keyed pseudonym of the film's name in its source
    pa.field("line", pa.int64()),                        # line of the label file, to find the film again at its source
    pa.field("source", pa.string(), nullable=False),     # kind of source: nih, mimic, dicom, phantom ...
    pa.field("dataset", pa.string(), nullable=False),    # which of the recipe's sources
    pa.field("status", pa.string(), nullable=False),     # accepted | set_aside | quarantined | unread
    pa.field("reason", pa.string()),                     # why it was set aside (not such a film) or quarantined (bad)
    pa.field("flags", pa.list_(pa.string()), nullable=False),  # what was repaired or noticed on an accepted film
    pa.field("image_id", pa.string()),                   # sha256 of the decoded pixels; null when they were not read
    pa.field("object", pa.string()),                     # sha256 of the normalised PNG
    pa.field("phash", pa.string()),                      # perceptual hash, hex: near-duplicates differ in few bits
    pa.field("patient", pa.string(), nullable=False),    # keyed pseudonym
    pa.field("study", pa.string()),                      # keyed pseudonym
    pa.field("day", pa.int32()),                         # days since the patient's first film in this source
    pa.field("split", pa.string(), nullable=False),      # train | validate | test, by patient
    *_VECTOR,
    pa.field("labels", pa.string(), nullable=False),     # where the vector comes from
    pa.field("sex", pa.string()), pa.field("age", pa.int32()), pa.field("view", pa.string()),
    pa.field("width", pa.int32()), pa.field("height", pa.int32()),
    pa.field("spacing", pa.float64()),                   # mm, side of a pixel of the normalised film
    pa.field("licence", pa.string(), nullable=False),
    pa.field("truth", pa.string()),                      # simulated films: JSON that renders the film again
])

GAPS = pa.schema([
    pa.field("build", pa.string(), nullable=False),
    pa.field("gap", pa.int64(), nullable=False),         # mask of the findings that must be present together,
    pa.field("without", pa.int64(), nullable=False),     # of those that must not be there (0 but for full patterns),
    pa.field("cell", pa.string(), nullable=False),       # within which films: "" all, or as sex=F,view=AP
    pa.field("findings", pa.list_(pa.string()), nullable=False),  # names; one that must not be there as "no edema"
    pa.field("order", pa.int32(), nullable=False),       # how many findings
    pa.field("films", pa.int64(), nullable=False),       # training films of the cell that leave none of them open
    pa.field("observed", pa.int64(), nullable=False),    # training films
    pa.field("expected", pa.float64(), nullable=False),  # under independence
    pa.field("lift", pa.float64()),                      # observed / expected
    pa.field("lift_low", pa.float64()), pa.field("lift_high", pa.float64()),  # its 95 % interval
    pa.field("stated", pa.int64(), nullable=False),      # films that state it, whatever the policy on uncertain ones
    pa.field("with_uncertain", pa.int64(), nullable=False),    # and those where uncertain findings could complete it
    pa.field("with_unmentioned", pa.int64(), nullable=False),  # and those where unmentioned ones could as well
    pa.field("needed", pa.int64(), nullable=False),      # films the policy asks for
    pa.field("deficit", pa.int64(), nullable=False),
    pa.field("fillable", pa.bool_(), nullable=False),
    pa.field("reason", pa.string()),                     # why it cannot be filled, or stays short
    pa.field("planned", pa.int64(), nullable=False),     # edits planned whose film shows it and did not before
])

#: Most general patterns that too few films show: no finding or attribute value can be left out without being covered.
UNCOVERED = pa.schema([
    pa.field("level", pa.int32(), nullable=False),       # findings and attribute values in it
    pa.field("gap", pa.int64(), nullable=False), pa.field("without", pa.int64(), nullable=False),
    pa.field("cell", pa.string(), nullable=False),
    pa.field("findings", pa.list_(pa.string()), nullable=False),
    pa.field("observed", pa.int64(), nullable=False),
    pa.field("possible", pa.bool_(), nullable=False),
    pa.field("reason", pa.string()),                     # why it cannot exist, or has never been seen
])

PLAN = pa.schema([
    pa.field("build", pa.string(), nullable=False),
    pa.field("edit_id", pa.string(), nullable=False),
    pa.field("rank", pa.int32(), nullable=False),
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("object", pa.string(), nullable=False),
    pa.field("patient", pa.string(), nullable=False),
    pa.field("operations", pa.list_(OPERATION), nullable=False),
    pa.field("source_present", pa.int64(), nullable=False),
    *_VECTOR,                                            # the target vector
    pa.field("gap", pa.int64(), nullable=False),         # the gap it was planned for, with the two columns
    pa.field("without", pa.int64(), nullable=False), pa.field("cell", pa.string(), nullable=False),  # that belong to it
    pa.field("cost", pa.float64(), nullable=False),
    pa.field("seed", pa.int64(), nullable=False),
    pa.field("editor", pa.string(), nullable=False),     # digest of the editor's weights
    pa.field("segmenter", pa.string(), nullable=False),
    pa.field("licence", pa.string(), nullable=False),
    pa.field("truth", pa.string()),
])

RENDERS = pa.schema([
    pa.field("edit_id", pa.string(), nullable=False),
    pa.field("object", pa.string()),                     # the edited film; null when it could not be made
    pa.field("mask", pa.string()),                       # PNG: 255 edit, 128 free band, 0 keep
    pa.field("error", pa.string()),
    pa.field("stack", pa.string(), nullable=False),      # torch, diffusers, device, dtype it was made on
    pa.field("seconds", pa.float64(), nullable=False),
])

MEASURES = ["psnr_outside", "ssim_outside", "ssim_whole", "kept_changed", "seam", "effect", "grain",
            "dice_left_lung", "dice_right_lung", "dice_lungs", "ctr_source", "ctr_edit"]

SAMPLES = pa.schema([
    pa.field("build", pa.string(), nullable=False),
    pa.field("edit_id", pa.string(), nullable=False),
    pa.field("image_id", pa.string(), nullable=False),   # the source film
    pa.field("source_object", pa.string(), nullable=False),
    pa.field("object", pa.string()), pa.field("mask", pa.string()),
    pa.field("patient", pa.string(), nullable=False),
    pa.field("operations", pa.list_(OPERATION), nullable=False),
    pa.field("source_present", pa.int64(), nullable=False),
    *_VECTOR,
    pa.field("gap", pa.int64(), nullable=False),
    pa.field("without", pa.int64(), nullable=False), pa.field("cell", pa.string(), nullable=False),
    pa.field("verdict", pa.string(), nullable=False),    # accepted | rejected
    pa.field("reasons", pa.list_(pa.string()), nullable=False),
    *[pa.field(m, pa.float64()) for m in MEASURES],
    pa.field("licence", pa.string(), nullable=False),
    pa.field("truth", pa.string()),
])

MEMBERS = pa.schema([
    pa.field("subset", pa.string(), nullable=False), pa.field("digest", pa.string(), nullable=False),
    pa.field("build", pa.string(), nullable=False), pa.field("edit_id", pa.string(), nullable=False),
])

SUBSETS = pa.schema([
    pa.field("subset", pa.string(), nullable=False), pa.field("version", pa.int32(), nullable=False),
    pa.field("digest", pa.string(), nullable=False),     # over the sorted member rows
    pa.field("build", pa.string(), nullable=False), pa.field("cohort", pa.string(), nullable=False),
    pa.field("planned", pa.int64(), nullable=False), pa.field("accepted", pa.int64(), nullable=False),
    pa.field("rejected", pa.int64(), nullable=False),
    pa.field("recipe", pa.string(), nullable=False),     # JSON
    pa.field("code", pa.string(), nullable=False),
    pa.field("licences", pa.list_(pa.string()), nullable=False),
    pa.field("created", pa.timestamp("us", tz="UTC"), nullable=False),
])

EVALUATIONS = pa.schema([
    pa.field("evaluation", pa.string(), nullable=False), # digest of subset, cohort and settings
    pa.field("subset", pa.string(), nullable=False), pa.field("version", pa.int32(), nullable=False),
    pa.field("backbone", pa.string(), nullable=False),
    pa.field("arm", pa.string(), nullable=False),        # real | real+subset | difference
    pa.field("finding", pa.string(), nullable=False),    # a finding, "macro", or "gaps": the filled combinations
    pa.field("measure", pa.string(), nullable=False),    # AUPRC | ECE | entropy
    pa.field("value", pa.float64()), pa.field("low", pa.float64()), pa.field("high", pa.float64()),
    pa.field("n", pa.int64(), nullable=False),           # test patients
    pa.field("positives", pa.int64(), nullable=False),
    pa.field("seeds", pa.int32(), nullable=False),
    pa.field("note", pa.string()),                       # why a value is undefined
])

TABLES = {"cohort": COHORT, "gaps": GAPS, "plan": PLAN, "renders": RENDERS, "samples": SAMPLES,
          "members": MEMBERS, "subsets": SUBSETS, "evaluations": EVALUATIONS}
