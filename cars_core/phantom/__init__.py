"""Simulated radiographs with known truth, and simulated findings laid over real films.

body (the healthy patient as thickness maps) -> scene (what findings and devices change in them) -> film (beam,
detector, display) -> truth (JSON, counterfactuals) -> population (who has what) -> words (the report) -> layouts
(files as public cohorts have them).
"""
