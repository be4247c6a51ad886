"""
Who was erased. Every store asks here before it writes.

    Tombstones.of(settings).erased(frame["user_id"])        a mask; free of cost while nobody was ever erased

A tombstone is a keyed hash, written to the ledger and, beside the data, to the lake's table `tombstones`. What either
of them holds counts, so neither a ledger that is lost nor a lake that is restored from a backup brings anybody back.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

import polars as pl

from pipeline.contracts.table import Table
from pipeline.contracts.tombstones import TOMBSTONES
from pipeline.errors import BadSetting, EngineFailure
from pipeline.settings import Settings
from pipeline.stores.keys import key_id, tombstone_key
from pipeline.stores.ledger import Ledger, Tombstone
from pipeline.stores.locks import alone
from pipeline.stores.tables import Lake

USER = "user_id"
PAYLOAD = "raw"
"""The column in which a table keeps a whole refused or late row as JSON."""

_read: dict[tuple[str, str], tuple[object, frozenset[str]]] = {}
"""By place, the tombstones as they were read and the state of the two stores then."""


class Tombstones:
    """The erased users of one platform."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.lake = Lake(settings.lake_url, settings.stores.storage_options)
        self.ledger = Ledger(settings.ledger_url)
        self._held: frozenset[str] | None = None

    @classmethod
    def of(cls, settings: Settings) -> Tombstones:
        return cls(settings)

    def erased(self, user_ids: pl.Series) -> pl.Series:
        """A mask: which of these ids are of erased users. Null is nobody.

        Raises:
            BadSetting: there are tombstones, but the key that they were made with is not here. Nothing may be written.
            EngineFailure: the ledger did not answer. Worth a retry.
        """
        hashes = self.hashes()
        if not hashes:
            return pl.repeat(False, len(user_ids), eager=True, dtype=pl.Boolean)
        distinct = user_ids.unique().drop_nulls()
        gone = [user for user in distinct if self.hash_of(user) in hashes]
        return user_ids.is_in(pl.Series(gone, dtype=pl.String).implode()).fill_null(False)

    def is_empty(self) -> bool:
        """Whether nobody was erased."""
        return not self.hashes()

    def erased_rows(self, table: Table, rows: pl.DataFrame) -> pl.Series:
        """A mask: the rows of a table that are of an erased user, or quote a row that was."""
        mask = pl.repeat(False, rows.height, eager=True, dtype=pl.Boolean)
        if self.hashes():
            for users in users_named(table, rows):
                mask |= self.erased(users)
        return mask

    def is_erased(self, user_id: str) -> bool:
        hashes = self.hashes()
        return bool(hashes) and self.hash_of(user_id) in hashes

    def hash_of(self, user_id: str) -> str:
        """The keyed hash of an id. Blanks around it are not part of it: a refused row may have some."""
        return hmac.digest(self._key, user_id.strip().encode(), hashlib.sha256).hex()

    def hashes(self) -> frozenset[str]:
        """Every keyed hash. Read again only when the ledger or the lake's copy has another state than last time."""
        if self._held is not None:
            return self._held
        place = (self.settings.ledger_url, self.settings.lake_url)
        state = (self.ledger.tombstone_state(), self.lake.version(TOMBSTONES))
        standing, hashes = _read.get(place, (None, frozenset()))
        if standing != state:
            found = self.all()
            if found:
                self._check_key(found)
            hashes = frozenset(tombstone.keyed_hash for tombstone in found)
            _read[place] = state, hashes
        return hashes

    @contextmanager
    def read_once(self) -> Iterator[None]:
        """Ask the stores once for all that is written within. Raises EngineFailure where an erasure came meanwhile."""
        known = self._held = self.hashes()
        try:
            yield
        finally:
            self._held = None
        if self.hashes() != known:
            raise EngineFailure("A user was erased while rows were written. Nothing was committed; run the step again.")

    def all(self) -> list[Tombstone]:
        """What either store holds, oldest first."""
        copies = [Tombstone(**row) for row in self.lake.scan(TOMBSTONES).collect().iter_rows(named=True)]
        by_hash = {tombstone.keyed_hash: tombstone for tombstone in [*copies, *self.ledger.tombstones()]}
        return sorted(by_hash.values(), key=lambda tombstone: (tombstone.erased_at, tombstone.keyed_hash))

    def add(self, user_id: str, reason: str, erased_at: datetime) -> Tombstone:
        """Note an erasure in both stores; the first one of a user stands. Takes effect for every write from now on."""
        keyed_hash = self.hash_of(user_id)
        standing = next((t for t in self.all() if t.keyed_hash == keyed_hash), None)
        tombstone = standing or Tombstone(
            keyed_hash=keyed_hash, key_id=key_id(self._key), reason=reason, erased_at=erased_at
        )
        self.ledger.record_tombstones([tombstone])
        self.restore()
        return tombstone

    def restore(self) -> int:
        """Let both stores hold what either holds; how many there are. Safe to repeat."""
        with alone(self.settings, "tombstones"):
            every = self.all()
            if every:
                self.ledger.record_tombstones(every)
                rows = [tombstone.model_dump() for tombstone in every]
                self.lake.overwrite(TOMBSTONES, pl.DataFrame(rows, TOMBSTONES.schema))
        return len(every)

    @property
    def _key(self) -> bytes:
        if not hasattr(self, "_key_read"):
            self._key_read = tombstone_key(self.settings)
        return self._key_read

    def _check_key(self, found: Iterable[Tombstone]) -> None:
        mine = key_id(self._key)
        foreign = {tombstone.key_id for tombstone in found} - {mine}
        if foreign:
            raise BadSetting(
                f"There are tombstones of key {', '.join(sorted(foreign))}, and this process has key {mine}: it cannot "
                "tell who was erased, so nothing was written. Restore <home>/secrets/privacy.json, or set "
                "INTEREST_PRIVACY__TOMBSTONE_KEY as on the other machines."
            )


def users_named(table: Table, rows: pl.DataFrame) -> list[pl.Series]:
    """The users that the rows of a table are of, or quote: one series for each place, null where a row names none."""
    named = [rows[USER]] if USER in table.names else []
    if PAYLOAD in table.names:
        named.append(rows.select(pl.col(PAYLOAD).str.json_path_match(f"$.{USER}")).to_series())
    return named


def names_users(table: Table) -> bool:
    return USER in table.names or PAYLOAD in table.names
