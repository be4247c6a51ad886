"""
Keeps the embedding space before the present one readable: at a promotion a map from the new space into the last one is
fitted and measured; while `spaces.still_read` names that space, vectors are published in it, too.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

import numpy as np
import polars as pl

from pipeline.contracts import LONG_TERM_INTEREST_MAPPED
from pipeline.errors import UnsafeModel
from pipeline.features.histories import FIRST_ITEM, Histories
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.models.space_map import MapQuality, apply_map, fit_map, load_map, measure_map, save_map
from pipeline.observability import get_logger
from pipeline.serving.releases import load_interest
from pipeline.settings import Settings
from pipeline.steps.model_runs import RunFolder
from pipeline.steps.training_data import TrainingData, read_training_data
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry

MODEL = "interest_evolution"
MAP = "space_map.safetensors"
QUALITY = "space_map.json"
MOST_USERS = 20_000
HELD_OUT = 5
"""One in so many users is not fitted on."""

log = get_logger(__name__)


def map_to_last_space(as_of: datetime, settings: Settings) -> MapQuality | None:
    """Fit, measure and keep the map of a promoted version into the space before it. Twice is the same as once.

    Returns:
        None for the first version, which has no space before it.
    """
    registry = Registry(settings)
    version = next(v for v in registry.versions(MODEL) if v.model_cutoff == as_of and v.was_promoted)
    if "space_map" in version.tags:
        return MapQuality(**json.loads(version.tags["space_map_quality"]))
    previous = registry.champion_before(MODEL, as_of)
    if previous is None:
        return None
    data = read_training_data(as_of, settings)
    new, old = (load_interest(registry, v) for v in (version, previous))
    ours, theirs = vectors_of_both(new, old, data)
    held_out = np.arange(len(ours)) % HELD_OUT == 0
    matrix = fit_map(ours[~held_out], theirs[~held_out])
    quality = measure_map(matrix, ours[held_out], theirs[held_out], int((~held_out).sum()))
    folder = RunFolder.of(settings, version.run_key).path
    folder.mkdir(parents=True, exist_ok=True)
    save_map(matrix, folder / MAP, mapped_from=version.space_id, mapped_to=previous.space_id)
    (folder / QUALITY).write_text(json.dumps(quality.to_dict(), indent=1), encoding="utf-8")
    for name in (MAP, QUALITY):
        registry.add_evidence(version, folder / name)
    registry.note(
        version,
        {
            "previous_space": previous.space_id,
            "previous_version": str(previous.number),
            "space_map_quality": json.dumps(quality.to_dict()),
            # Written last: with it the map exists.
            "space_map": hashlib.sha256((folder / MAP).read_bytes()).hexdigest(),
        },
    )
    log.info("space mapped", version=version.number, to=previous.space_id, **quality.to_dict())
    return quality


def vectors_of_both(
    new: InterestEvolutionModel, old: InterestEvolutionModel, data: TrainingData
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [users, dim] by both models of the users whom both know, in an order that says nothing of them."""
    seen = [data.histories_in(model.catalogue, tuple(model.config.event_types)) for model in (new, old)]
    known = [{user for user, has in zip(h.user_ids, _has_known_items(h), strict=True) if has} for h in seen]
    users = sorted(known[0] & known[1], key=lambda user: hashlib.sha256(user.encode()).digest())[:MOST_USERS]
    return tuple(
        model.encode(histories.take(_positions(histories, users)))
        for model, histories in zip((new, old), seen, strict=True)
    )


def mapped_rows(standing: pl.DataFrame, version: Version, registry: Registry) -> pl.DataFrame:
    """Rows of the contract LONG_TERM_INTEREST_MAPPED from rows of LONG_TERM_INTEREST of one version.

    Raises:
        UnsafeModel: the map is not the one that was registered.
    """
    path = registry.evidence(version, MAP)
    if hashlib.sha256(path.read_bytes()).hexdigest() != version.tags["space_map"]:
        raise UnsafeModel(f"{path} is not the map that was registered with {version.name}. Nothing was mapped.")
    if standing.is_empty():
        return LONG_TERM_INTEREST_MAPPED.empty()
    vectors = apply_map(np.array(standing["vector"].to_list(), dtype=np.float32), load_map(path))
    mapped = pl.Series("vector", vectors).cast(LONG_TERM_INTEREST_MAPPED.schema["vector"])
    rows = standing.with_columns(
        mapped, mapped_from=pl.col("space_id"), space_id=pl.lit(version.tags["previous_space"])
    )
    return rows.select(LONG_TERM_INTEREST_MAPPED.names)


def _has_known_items(histories: Histories) -> np.ndarray:
    """[users] bool: whether any event is of an item that the catalogue knows."""
    counted = np.concatenate([[0], np.cumsum(histories.items >= FIRST_ITEM)])
    return counted[histories.offsets[1:]] > counted[histories.offsets[:-1]]


def _positions(histories: Histories, users: list[str]) -> np.ndarray:
    """Where the users are, in their own order."""
    place = {user: position for position, user in enumerate(histories.user_ids)}
    return np.array([place[user] for user in users], dtype=np.int64)
