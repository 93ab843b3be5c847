"""Lets these tests import the helper beside them, which pytest's importlib mode does not do."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
