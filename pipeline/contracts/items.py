"""The catalogue, and the meaning of its items as text vectors."""

import polars as pl

from pipeline.contracts.table import UTC_TIME, Column, Table

UNKNOWN_TITLE = "unknown"
UNCATEGORISED = "uncategorised"
"""The category of an item that has none, and of an item outside the catalogue."""

MODALITIES = ("audio", "image", "video")
"""Of what an item may have a vector, beside its text."""

ITEMS = Table(
    name="items",
    grain="one item, as known from `valid_from` on",
    key=("item_id", "valid_from"),
    owner="ml-platform@example.com",
    daily=False,
    columns=(
        Column("item_id", pl.String(), "names the item", max_length=256),
        Column("title", pl.String(), "what a person calls it"),
        Column("categories", pl.List(pl.String()), "what it belongs to; may be empty"),
        Column("valid_from", UTC_TIME, "from when this description holds"),
    ),
)

ITEM_VECTORS = Table(
    name="item_vectors",
    grain="the vector of one item in one modality, as known from `valid_from` on",
    key=("item_id", "modality", "valid_from"),
    owner="ml-platform@example.com",
    daily=False,
    freshness="",
    columns=(
        Column("item_id", pl.String(), "names the item", max_length=256),
        Column("modality", pl.String(), "what was looked at or listened to", allowed=MODALITIES),
        Column("vector", pl.List(pl.Float32()), "as it was delivered; of one width within a modality"),
        Column("valid_from", UTC_TIME, "from when this vector holds"),
    ),
)

ITEM_TEXT = Table(
    name="item_text",
    grain="the text vector of one item in one space",
    key=("item_id", "space_id"),
    owner="ml-platform@example.com",
    daily=False,
    freshness="",
    columns=(
        Column("item_id", pl.String(), "names the item"),
        Column("vector", pl.List(pl.Float32()), "whitened text embedding of title and categories, unit length"),
        Column("space_id", pl.String(), "encoder and whitening; compare vectors only when equal"),
        Column("event_timestamp", UTC_TIME, "from when the text holds"),
        Column("created", UTC_TIME, "when the platform wrote the row"),
    ),
)

ITEM_TEXT_SPACES = Table(
    name="item_text_spaces",
    grain="the space of one text encoder",
    key=("encoder",),
    owner="ml-platform@example.com",
    daily=False,
    freshness="",
    columns=(
        Column("encoder", pl.String(), "names the language model and how many tokens it reads"),
        Column("space_id", pl.String(), "as the vectors of `item_text` name it"),
        Column("mean", pl.List(pl.Float32()), "what is subtracted from a raw vector"),
        Column("projection", pl.List(pl.Float32()), "what it is multiplied with then: a matrix, row after row"),
    ),
)
"""The whitening of `item_text`: fitted once for each encoder, so that vectors of later items are comparable."""
