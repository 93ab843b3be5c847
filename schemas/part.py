"""What all sections of a recipe have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """A section of a recipe: unknown keys are refused, and nothing in it changes."""

    # Infinity passes a lower bound and then has no JSON form, so no digest: refused like any other bad value.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
