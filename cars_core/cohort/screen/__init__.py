"""Screening of films at ingest: what is no upright frontal chest film, and what betrays a patient on the pixels."""
