"""Simulated radiographs with known truth, and simulated findings laid over real films."""
