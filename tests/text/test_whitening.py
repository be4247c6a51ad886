"""Whitening: every direction counts alike, and the space is named by every number of it."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.text.whitening import Whitening


@pytest.fixture
def vectors() -> np.ndarray:
    """500 vectors that nearly all point the same way, as mean-pooled ones do."""
    generator = np.random.default_rng(0)
    return (generator.normal(size=(500, 24)) * np.linspace(0.05, 1.0, 24) + 5.0).astype(np.float32)


def test_whitened_vectors_share_no_direction(vectors):
    raw = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (raw @ raw.T).mean() > 0.9
    white = Whitening.fit(vectors, "encoder", dim=16).apply(vectors)
    assert white.shape == (500, 16) and np.allclose(np.linalg.norm(white, axis=1), 1.0, atol=1e-5)
    assert abs((white @ white.T).mean()) < 0.01
    centred = (vectors - vectors.mean(axis=0)) @ Whitening.fit(vectors, "encoder", dim=16).projection
    assert np.allclose(np.cov(centred.T), np.eye(16), atol=0.01)


@pytest.mark.parametrize(("items", "most"), [(1, 1), (2, 1), (10, 5), (500, 16)])
def test_a_small_catalogue_gets_fewer_dimensions(vectors, items, most):
    whitening = Whitening.fit(vectors[:items], "encoder", dim=16)
    assert 1 <= whitening.dim <= most and np.isfinite(whitening.apply(vectors)).all()


def test_equal_texts_are_no_trouble():
    whitening = Whitening.fit(np.ones((8, 4), dtype=np.float32), "encoder")
    assert np.isfinite(whitening.apply(np.ones((8, 4), dtype=np.float32))).all()


def test_the_space_is_named_by_the_encoder_and_by_every_number(vectors):
    whitening = Whitening.fit(vectors, "encoder")
    changed = whitening.projection.copy()
    changed[3, 2] += 1e-6
    others = [replace(whitening, encoder="x"), replace(whitening, projection=changed)]
    others.append(Whitening.fit(vectors[1:], "encoder"))
    assert len({whitening.space_id, *(other.space_id for other in others)}) == 4
