import numpy as np
import pytest

from pipeline.models.space_map import apply_map, fit_map, load_map, measure_map, save_map


def unit(generator, users: int, dim: int) -> np.ndarray:
    vectors = generator.normal(size=(users, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_space_that_is_the_old_one_turned_is_turned_back():
    generator = np.random.default_rng(5)
    old = unit(generator, 200, 8)
    turn, _ = np.linalg.qr(generator.normal(size=(8, 8)))
    new = (old @ turn).astype(np.float32)
    matrix = fit_map(new[:150], old[:150])
    np.testing.assert_allclose(apply_map(new, matrix), old, atol=1e-5)
    quality = measure_map(matrix, new[150:], old[150:], 150)
    assert (quality.cosine, quality.r2, quality.overlap) == pytest.approx((1.0, 1.0, 1.0), abs=1e-4)


def test_spaces_that_have_nothing_in_common_are_said_to():
    generator = np.random.default_rng(6)
    new, old = unit(generator, 400, 16), unit(generator, 400, 16)
    quality = measure_map(fit_map(new[:200], old[:200]), new[200:], old[200:], 200)
    assert abs(quality.cosine) < 0.2 and quality.r2 < 0.0 and quality.overlap < 0.2


def test_the_map_keeps_angles_and_may_change_the_number_of_dimensions():
    generator = np.random.default_rng(7)
    new, old = unit(generator, 100, 6), unit(generator, 100, 9)
    matrix = fit_map(new, old)
    assert matrix.shape == (6, 9)
    mapped = apply_map(new, matrix)
    np.testing.assert_allclose(mapped @ mapped.T, new @ new.T, atol=1e-5)


def test_a_map_of_too_few_users_has_no_quality(tmp_path):
    generator = np.random.default_rng(8)
    vectors = unit(generator, 1, 4)
    assert np.isnan(measure_map(np.eye(4, dtype=np.float32), vectors, vectors, 0).cosine)
    save_map(np.eye(4, dtype=np.float32), tmp_path / "map.safetensors", mapped_from="b", mapped_to="a")
    np.testing.assert_array_equal(load_map(tmp_path / "map.safetensors"), np.eye(4))
