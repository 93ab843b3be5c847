"""Hostile inputs for benchmarks/fuzz.py: base files, and what is done to them. Everything follows from a seed."""
