"""Is an edit good enough to publish: what is measured on it, and the gates it must pass."""
