"""From gaps to edits: which films, which operations, the fewest of them."""
