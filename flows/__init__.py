"""The factory's line, readable top to bottom."""
