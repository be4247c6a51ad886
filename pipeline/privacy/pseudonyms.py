"""
Keyed pseudonyms: what stands at rest instead of a user's id. Without the keys nobody can tell whose they are.

    Pseudonyms((key,)).stored(pl.Series(["anna"]))     ->  ["u1.5rk2…"]

A pseudonym is HMAC-SHA256 of the id, cut to 120 bits, with a seal by the same key: so one that is met again, in a file
that was written before or in somebody's question, is known as one and is not hidden twice. A rotation adds a key, and
the pseudonym by the new key is made of the pseudonym by the one before; what is at rest can be re-keyed without any id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass

import polars as pl

BODY, SEAL = 15, 5
"""Bytes. Two of a billion users share a body with a chance of 4e-19; a text is a seal by chance once in 1e12."""


@dataclass(frozen=True)
class Pseudonyms:
    """The keys, the first one first. Pure; equal ids have equal pseudonyms."""

    keys: tuple[bytes, ...]

    def root(self, user_ids: pl.Series) -> pl.Series:
        """By the first key: what derived ids are made from, since it stays in every rotation.

        A pseudonym of a later key is given back as it is: the ids behind it cannot be told.
        """
        return self._each(user_ids, self._first)

    def stored(self, user_ids: pl.Series) -> pl.Series:
        """By the newest key, of ids and of pseudonyms of any key. Null stays null."""
        return self._each(user_ids, self.stored_id)

    def stored_id(self, user_id: str) -> str:
        return self.every_id(user_id)[-1]

    def every_id(self, user_id: str) -> list[str]:
        """What an id, or a pseudonym of it, has been called from the first (or its own) key on to the newest."""
        found, number = user_id.strip(), self.number_of(user_id)
        names = [found] if number else []
        for place in range(number, len(self.keys)):
            found = self._pseudonym(place, found)
            names.append(found)
        return names

    def number_of(self, text: str) -> int:
        """Which key made this pseudonym, from 1; 0 for a text that is none."""
        mark, dot, code = text.strip().partition(".")
        if not dot or not mark.startswith("u") or not mark[1:].isdecimal() or len(code) != 32:
            return 0
        place = int(mark[1:]) - 1
        if not 0 <= place < len(self.keys):
            return 0
        try:
            whole = base64.b32decode(code.upper())
        except ValueError:
            return 0
        return place + 1 if hmac.compare_digest(whole[BODY:], self._seal(place, whole[:BODY])) else 0

    def _first(self, user_id: str) -> str:
        return self.every_id(user_id)[0]

    def _pseudonym(self, place: int, name: str) -> str:
        body = hmac.digest(self.keys[place], b"user:" + name.encode(), hashlib.sha256)[:BODY]
        code = base64.b32encode(body + self._seal(place, body)).decode().lower()
        return f"u{place + 1}.{code}"

    def _seal(self, place: int, body: bytes) -> bytes:
        return hmac.digest(self.keys[place], b"seal:" + body, hashlib.sha256)[:SEAL]

    @staticmethod
    def _each(user_ids: pl.Series, name_of) -> pl.Series:
        distinct = user_ids.unique().drop_nulls()
        names = [name_of(user) for user in distinct]
        new = pl.Series(names, dtype=pl.String)
        return user_ids.replace_strict(distinct, new, default=None, return_dtype=pl.String)
