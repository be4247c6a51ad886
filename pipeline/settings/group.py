"""What every group of settings is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """A group of settings; an unknown name is a mistake, not a wish."""

    model_config = ConfigDict(extra="forbid", frozen=True)
