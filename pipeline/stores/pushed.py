"""The result of a push, in a module without Feast: steps return it, and load Feast only when they push."""

from pydantic import BaseModel, ConfigDict


class PushedRows(BaseModel):
    """What became of a push. `rows` counts entities: of several rows of one, only the newest is pushed."""

    model_config = ConfigDict(frozen=True)

    view: str
    rows: int
    accepted: int
    refused: int
    """Not newer than what is served."""
