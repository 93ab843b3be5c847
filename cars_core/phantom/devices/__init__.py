"""Tubes, lines and wires."""
