"""Masked diffusion editing: the denoiser, its training, one edit, a shard of edits."""
