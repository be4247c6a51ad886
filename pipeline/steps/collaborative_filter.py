"""
Fine-tunes the collaborative filter on the promoted interest model, fits the hybrid, and lets the gate decide.

The version and the interest version in its tags are one release. Both the filter and the hybrid, which is what users
get, must stand up to the champion's.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from time import perf_counter

import polars as pl

from pipeline.errors import NoInterestModel
from pipeline.evaluation.comparison import compare
from pipeline.evaluation.placebo import EARLIER_DAYS, hybrid_placebo, placebo_table
from pipeline.models.baselines import baselines
from pipeline.models.collaborative_filter import CollaborativeFilter, CollaborativeFilterConfig
from pipeline.models.recommender import InCatalogue, Recommender
from pipeline.models.release import Release
from pipeline.models.translation import encoder_in
from pipeline.observability import get_logger
from pipeline.partitions import Day, run_key_of
from pipeline.serving.registered_model import example_histories, example_rows
from pipeline.serving.releases import load_interest, load_release
from pipeline.settings import Settings
from pipeline.steps.model_runs import (
    BACKTEST_KEY,
    CHAMPION,
    GateOutcome,
    RunFolder,
    TrainedVersion,
    gate_version,
    lineage_of,
    read_evaluation,
    register_run,
    registered,
)
from pipeline.steps.training_data import TrainingData, read_training_data
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry

MODEL = "collaborative_filter"
HYBRID = Release.name
CHAMPION_HYBRID = "champion_hybrid"

log = get_logger(__name__)


def train_collaborative_filter(
    as_of: datetime, settings: Settings, known_at: datetime, backtest: bool = False
) -> TrainedVersion:
    """Train, measure and register the version of a cutoff. Twice is the same as once.

    Args:
        as_of: the first moment that is no longer in the data, for example the end of a week.
        backtest: whether it is trained to look back: under a run key of its own, and never to serve.

    Raises:
        BadPartition: no event lies before the validation window.
        NoInterestModel: no interest model with a cutoff up to `as_of` was promoted.
    """
    run_key = run_key_of(MODEL, as_of) + (BACKTEST_KEY if backtest else "")
    registry, run = Registry(settings), RunFolder.of(settings, run_key)
    if (standing := registry.registered(MODEL, run_key)) is not None:
        return TrainedVersion.of(standing, read_evaluation(registry, run, standing), was_registered=True)
    data = read_training_data(as_of, settings)
    if run.is_trained:
        bound = registry.version("interest_evolution", int(run.training_facts()["interest_version"]))
    else:
        bound = _interest_at(registry, as_of)
        _train(data, run, registry, bound, settings)
    release = Release.load(run.model, load_interest(registry, bound))
    evaluation = _evaluate(release, data, registry, run_key, settings)
    run.write_evaluation(evaluation)
    known = data.split.known(data.histories)
    example = example_rows(known, data.catalogue)
    some = example_histories(known, data.catalogue)
    version = register_run(
        registry,
        MODEL,
        run_key,
        run,
        data,
        evaluation,
        example=example.with_columns(interest=pl.Series(release.encode(some).tolist(), dtype=pl.List(pl.Float32))),
        space_id=release.space_id,
        params=asdict(release.filter.config)
        | {"interest_scale": release.filter.interest_scale}
        | {f"weight/{name}": weight for name, weight in release.hybrid.weights.items()},
        lineage=lineage_of(data, settings, backtest) | {"interest_version": str(bound.number)},
    )
    trained = TrainedVersion.of(version, evaluation, was_registered=False)
    log.info("collaborative filter registered", **trained.model_dump(mode="json"))
    return trained


def gate_collaborative_filter(as_of: datetime, settings: Settings, known_at: datetime) -> GateOutcome:
    """Promote or hold the version of a cutoff, by the rules.

    Days that it should have served are written by `restate_recommendations`.

    Raises:
        NotFound: the run has not registered a version.
    """
    run_key = run_key_of(MODEL, as_of)
    registry, run = Registry(settings), RunFolder.of(settings, run_key)
    version = registered(registry, MODEL, run_key)
    evaluation = read_evaluation(registry, run, version)
    champion = registry.champion_before(MODEL, as_of)
    if version.status == "candidate" and evaluation["champion_version"] != (champion and champion.number):
        # An older week was decided since: the candidate has to beat the champion that serves now.
        data = read_training_data(as_of, settings)
        evaluation = _evaluate(load_release(registry, version), data, registry, run_key, settings)
    pairs = {MODEL: CHAMPION, HYBRID: CHAMPION_HYBRID}
    return gate_version(registry, run, version, evaluation, pairs, settings, known_at)


def _interest_at(registry: Registry, as_of: datetime) -> Version:
    found = registry.standing("interest_evolution", as_of)
    if found is None:
        raise NoInterestModel(
            f"No interest_evolution version with a cutoff up to {Day.of(as_of)} was promoted, so there is no long-term "
            "interest to tune with. Train and gate the interest model first; `interest status` says what was held."
        )
    return found


def _train(data: TrainingData, run: RunFolder, registry: Registry, bound: Version, settings: Settings) -> None:
    """Learn before the validation window, choose on it, save with the popularity of the cutoff."""
    split, catalogue, chosen = data.split, data.catalogue, settings.training
    interest = load_interest(registry, bound)
    vectors = data.text_vectors(catalogue)[0]
    include_seen = settings.recommending.include_seen
    defaults = CollaborativeFilterConfig()
    config = replace(
        defaults,
        seed=chosen.seed,
        include_seen=include_seen,
        horizon_days=float(settings.evaluation.test_days),
        max_epochs=min(defaults.max_epochs, chosen.max_epochs),
        max_seconds=min(defaults.max_seconds, chosen.max_seconds),
    )
    champion = registry.champion_before(MODEL, split.as_of)
    previous = CollaborativeFilter.load(registry.fetch(champion)) if champion else None
    tuned = CollaborativeFilter(config, space_id=bound.space_id, interest_version=str(bound.number))
    began = perf_counter()
    tuned.fit(
        split.known(data.histories),
        catalogue,
        split.test_start,
        validation_start=split.validation_start,
        encode=encoder_in(interest, catalogue),
        item_vectors=vectors,
        previous=previous,
    )
    release = Release(tuned, interest, catalogue.category_matrix() if vectors is None else vectors)
    before, window = (
        data.histories.before(split.validation_start),
        data.histories.between(split.validation_start, split.test_start),
    )
    release.fit_weights(before, window, split.validation_start, include_seen)
    # What is popular is a state, not a weight: the release serves from the cutoff on, so it may know all before it.
    release.observe(data.histories, split.as_of)
    run.keep(
        release.save,
        {
            "interest_version": bound.number,
            "warm_start": champion and champion.number,
            "seconds": perf_counter() - began,
            "curves": tuned.curves,
        },
    )


def _evaluate(release: Release, data: TrainingData, registry: Registry, run_key: str, settings: Settings) -> dict:
    """The filter and the hybrid beside the champion's and the baselines, and the placebo table."""
    began = perf_counter()
    split, catalogue = data.split, data.catalogue
    known, test = split.known(data.histories), split.test(data.histories)
    release.observe(known, split.test_start)
    champion = registry.champion_before(MODEL, split.as_of)
    recommenders: dict[str, Recommender] = {MODEL: release.filter_part, HYBRID: release}
    if champion is not None:
        before = load_release(registry, champion)
        before.observe(data.histories_in(before.catalogue, before.event_types), split.test_start)
        recommenders[CHAMPION] = InCatalogue(before.filter_part, before.catalogue, catalogue, CHAMPION)
        recommenders[CHAMPION_HYBRID] = InCatalogue(before, before.catalogue, catalogue, CHAMPION_HYBRID)
    recommenders |= {part.name: part for part in (release.interest_part, release.content)}
    for baseline in baselines(settings.training.seed):
        recommenders[baseline.name] = baseline.fit(known, catalogue, split.test_start)
    options = {
        "include_seen": settings.recommending.include_seen,
        "samples": settings.evaluation.bootstrap_samples,
        "confidence": settings.evaluation.confidence,
        "seed": settings.training.seed,
        "item_vectors": release.vectors,
    }
    reference = CHAMPION if champion else "popularity"
    comparison = compare(recommenders, known, test, catalogue, split.test_start, reference=reference, **options)
    earlier = release.encode(known.before(split.test_start - timedelta(days=EARLIER_DAYS)))
    placebo = placebo_table(
        release.filter,
        known,
        test,
        catalogue,
        split.test_start,
        release.encode(known),
        earlier={f"{EARLIER_DAYS}_days_ago": earlier},
        **options,
    )
    exchanged = hybrid_placebo(
        release.hybrid, release.filter, release.encode, known, test, catalogue, split.test_start, **options
    )
    return {
        "model": MODEL,
        "run_key": run_key,
        "champion_version": champion and champion.number,
        "model_cutoff": split.as_of.isoformat(),
        "trained_until": split.test_start.isoformat(),
        "space_id": release.space_id,
        "weights": release.hybrid.weights,
        "metrics": comparison.means(MODEL),
        "comparison": comparison.to_dict(),
        "placebo": placebo.to_dict(),
        "hybrid_placebo": exchanged.to_dict(),
        "seconds": perf_counter() - began,
    }
