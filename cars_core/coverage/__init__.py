"""Which combinations of findings a cohort lacks, and which edits of its films would fill them."""
