"""What an item is about, from its text."""

from entities import item
from sources import item_text_source

from pipeline.contracts import ITEM_TEXT
from pipeline.stores.declarations import view_of

item_text = view_of(
    ITEM_TEXT,
    entity=item,
    source=item_text_source,
    written_by="interest_evolution",
    description="The item's title and categories as one whitened vector of a language model.",
)
