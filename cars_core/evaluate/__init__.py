"""Does a subset help? Fine-tuning with and without it, on test patients nobody else saw."""
