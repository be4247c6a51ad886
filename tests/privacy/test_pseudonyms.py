"""Pseudonyms: the same for the same id, nobody's without the key, and carried on by a rotation."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.privacy.pseudonyms import Pseudonyms
from pipeline.privacy.receipts import is_distinct, without_id, words_of

ONE, TWO = b"1" * 32, b"2" * 32
BEFORE, AFTER = Pseudonyms((ONE,)), Pseudonyms((ONE, TWO))
IDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=40)


@given(IDS, IDS)
def test_equal_ids_and_only_these_have_equal_pseudonyms(one: str, other: str):
    assert (BEFORE.stored_id(one) == BEFORE.stored_id(other)) == (one == other)
    assert one not in BEFORE.stored_id(one) or len(one) < 4
    assert Pseudonyms((TWO,)).stored_id(one) != BEFORE.stored_id(one)


@given(IDS)
def test_what_is_hidden_is_not_hidden_twice_and_follows_a_rotation(user: str):
    hidden = BEFORE.stored_id(user)
    assert BEFORE.stored_id(hidden) == hidden
    assert AFTER.stored_id(hidden) == AFTER.stored_id(user) != hidden
    assert AFTER.stored_id(AFTER.stored_id(user)) == AFTER.stored_id(user)
    assert AFTER.every_id(user) == [hidden, AFTER.stored_id(user)]
    assert len(hidden) == 35


@pytest.mark.parametrize("text", ["u1.", "u1." + "a" * 32, "u9.abc", "u1." + "é" * 32, "anna"])
def test_a_text_that_looks_like_a_pseudonym_is_an_id_like_any_other(text: str):
    assert BEFORE.number_of(text) == 0 and BEFORE.stored_id(text) != text


def test_a_pseudonym_with_one_letter_changed_is_none():
    hidden = BEFORE.stored_id("anna")
    changed = hidden[:-1] + ("a" if hidden[-1] != "a" else "b")
    assert BEFORE.number_of(hidden) == 1 and BEFORE.number_of(changed) == 0


def test_a_column_keeps_its_order_and_its_nulls():
    given_ids = pl.Series(["b", None, "a", "b"])
    hidden = AFTER.stored(given_ids)
    assert hidden.to_list() == [AFTER.stored_id("b"), None, AFTER.stored_id("a"), AFTER.stored_id("b")]
    assert AFTER.root(given_ids)[0] == BEFORE.stored_id("b")


def test_a_reason_does_not_name_the_user():
    assert without_id("anna-7 asked; not anna-77", ["anna-7"]) == "[the user] asked; not anna-77"


def test_an_id_is_found_among_words():
    assert {"anna-7", "x@y.z"} <= set(words_of(b"<td>anna-7.</td> mail x@y.z"))
    assert is_distinct("anna-7") and not is_distinct("196") and not is_distinct("anna")
