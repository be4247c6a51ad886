"""Replays the probes of other teams against a version of the interest model."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS
from pipeline.errors import NotFound
from pipeline.evaluation.probes import Probe, ProbeResult, parse_probe, replay
from pipeline.features.histories import FIRST_ITEM, Histories
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.serving.releases import load_interest
from pipeline.serving.user_ids import UserIds
from pipeline.settings import Settings
from pipeline.stores.probe_files import REGISTERED, read_probes
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake

MODEL = "interest_evolution"


def replay_probes(
    model: InterestEvolutionModel, as_of: datetime, settings: Settings, folder: Path | None = None
) -> list[ProbeResult]:
    """The result of every registered probe, in the order of their names.

    Args:
        as_of: a user's vector is made from the events before this moment.
        folder: where the probes are, if not where the settings say.

    Raises:
        BadSetting: a file is not a probe.
    """
    where = folder or settings.gate.probes or REGISTERED
    probes = {name: parse_probe(name, described) for name, described in read_probes(where).items()}
    items = model.item_vectors()
    catalogue = dict(zip(model.catalogue.item_ids[FIRST_ITEM:], items[FIRST_ITEM:], strict=True))
    return [
        replay(name, probe, catalogue if probe.of == "items" else _of_users(probe, model, as_of, settings))
        for name, probe in probes.items()
    ]


def replay_on_champion(settings: Settings, known_at: datetime, folder: Path | None = None) -> list[ProbeResult]:
    """The same for the version that serves. Raises NotFound when none does."""
    registry = Registry(settings)
    version = registry.champion(MODEL)
    if version is None:
        raise NotFound("No interest_evolution version was promoted, so no space can be probed. Run `interest train`.")
    return replay_probes(load_interest(registry, version), known_at, settings, folder)


def _of_users(
    probe: Probe, model: InterestEvolutionModel, as_of: datetime, settings: Settings
) -> dict[str, np.ndarray]:
    """The vectors of a probe's users, under the ids that the probe gives them; who has no event is left out."""
    named = sorted({*probe.labels, *probe.neighbours, *(one for many in probe.neighbours.values() for one in many)})
    ids = UserIds.of(settings)
    stored = {ids.stored_id(user): user for user in named}
    wanted = pl.LazyFrame({"user_id": list(stored)}, {"user_id": pl.String})
    events = Lake.of(settings).scan(BEHAVIOR_EVENTS).filter(pl.col("event_time") < as_of)
    histories = Histories.from_events(
        events.join(wanted, on="user_id", how="semi").collect(), model.catalogue, tuple(model.config.event_types)
    )
    return {stored[user]: row for user, row in zip(histories.user_ids, model.encode(histories), strict=True)}
