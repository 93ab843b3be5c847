"""The demo recipe, made tiny: minutes become seconds."""

SETTINGS = [
    "cohort.films=60",
    "cohort.size=128",
    "cohort.workers=1",
    "gaps.min_count=6",
    "plan.max_edits=6",
    "editor.steps=2",
    "editor.shard=4",
    "editor.chunk=2",
    "evaluation.steps=4",
    "evaluation.batch=8",
    "evaluation.seeds=[0]",
    "evaluation.image_size=64",
    "evaluation.bootstrap=20",
    # Two sampling steps make rough edits; what is tested here is the line, not the editor.
    "gates.effect_min=0",
    "gates.grain_max=10",
    "gates.seam_max=50",
    "gates.dice_lungs_min=0.5",
    "gates.dice_other_lung_min=0.5",
    "gates.ctr_change_max=1",
]
RECIPE = "flows/recipes/demo.yaml"
