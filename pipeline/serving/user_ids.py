"""
Where users' ids enter the platform: the log that is loaded or read, and the question that names a user.

Behind this edge an id is what the settings want at rest: the id itself, or its pseudonym. Answers carry the id that was
asked for. Who was erased is recognised here under every pseudonym that the user ever had.
"""

from __future__ import annotations

from functools import cached_property

import polars as pl

from pipeline.events.contract_checks import can_be_user_id
from pipeline.privacy.pseudonyms import Pseudonyms
from pipeline.settings import Settings
from pipeline.stores.keys import pseudonym_keys
from pipeline.stores.tombstones import Tombstones


class UserIds:
    """Translates ids on their way in."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.tombstones = Tombstones.of(settings)

    @classmethod
    def of(cls, settings: Settings) -> UserIds:
        return cls(settings)

    @cached_property
    def pseudonyms(self) -> Pseudonyms | None:
        """None where ids are kept as they are."""
        return Pseudonyms(pseudonym_keys(self.settings)) if self.settings.privacy.pseudonymise else None

    def root(self, user_ids: pl.Series) -> pl.Series:
        """What ids that are derived from a user's are made from: the same after a rotation."""
        return user_ids if self.pseudonyms is None else self._of_users(user_ids, self.pseudonyms.root(user_ids))

    def stored(self, user_ids: pl.Series) -> pl.Series:
        """The ids as they are at rest. Null stays null, and what the contract refuses as an id stays as it is."""
        return user_ids if self.pseudonyms is None else self._of_users(user_ids, self.pseudonyms.stored(user_ids))

    @staticmethod
    def _of_users(given: pl.Series, hidden: pl.Series) -> pl.Series:
        return hidden.zip_with(can_be_user_id(given), given)

    def stored_id(self, user_id: str) -> str:
        return user_id if self.pseudonyms is None else self.pseudonyms.stored_id(user_id)

    def erased(self, user_ids: pl.Series) -> pl.Series:
        """A mask: which of these are of erased users, whatever they were called when they were erased."""
        mask = self.tombstones.erased(user_ids)
        if self.pseudonyms is not None and self.tombstones.hashes():
            names = {user: self.pseudonyms.every_id(user) for user in user_ids.unique().drop_nulls()}
            gone = [user for user, every in names.items() if self.tombstones.erased(pl.Series(every)).any()]
            mask |= user_ids.is_in(pl.Series(gone, dtype=pl.String).implode()).fill_null(False)
        return mask
