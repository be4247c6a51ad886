"""
Fine-tunes the collaborative filter on the promoted interest model, fits the hybrid, and lets the gate decide.

The version and the interest version in its tags are one release. Both the filter and the hybrid, which is what users
get, must stand up to the champion's.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from time import perf_counter

import polars as pl

from pipeline.errors import NoInterestModel
from pipeline.evaluation.compare import compare
from pipeline.evaluation.placebo import EARLIER_DAYS, hybrid_placebo, placebo_table
from pipeline.models.baselines import baselines
from pipeline.models.collaborative_filter import CollaborativeFilter, CollaborativeFilterConfig
from pipeline.models.recommender import InCatalogue, Recommender
from pipeline.models.release import Release
from pipeline.models.translation import encoder_in
from pipeline.partitions import Day
from pipeline.serving.registered_model import example_histories, example_rows
from pipeline.serving.releases import load_interest, load_release
from pipeline.settings import Settings
from pipeline.steps.gate import GateOutcome, gate_run
from pipeline.steps.model_runs import CHAMPION, ModelRun, TrainedVersion
from pipeline.steps.training_data import TrainingData, read_training_data
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry

MODEL = "collaborative_filter"
HYBRID = Release.name
CHAMPION_HYBRID = "champion_hybrid"

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
    run = ModelRun(MODEL, as_of, settings, backtest)
    if (finished := run.finished()) is not None:
        return finished
    data = read_training_data(as_of, settings)
    if run.folder.is_trained:
        bound = run.registry.version("interest_evolution", int(run.folder.training_facts()["interest_version"]))
    else:
        bound = _interest_at(run.registry, as_of)
        _train(data, run, bound)
    release = Release.load(run.folder.model, load_interest(run.registry, bound))
    evaluation = _evaluate(release, data, run)
    known = data.split.known(data.histories)
    interest = release.encode(example_histories(known, data.catalogue))
    return run.register(
        data,
        evaluation,
        example=example_rows(known, data.catalogue).with_columns(
            interest=pl.Series(interest.tolist(), dtype=pl.List(pl.Float32))
        ),
        params=asdict(release.filter.config)
        | {"interest_scale": release.filter.interest_scale}
        | {f"weight/{name}": weight for name, weight in release.hybrid.weights.items()},
        lineage={"interest_version": str(bound.number)},
    )


def gate_collaborative_filter(as_of: datetime, settings: Settings, known_at: datetime) -> GateOutcome:
    """Promote or hold the version of a cutoff, by the rules.

    Days that it should have served are written by `restate_recommendations`.

    Raises:
        NotFound: the run has not registered a version.
    """
    run = ModelRun(MODEL, as_of, settings)
    return gate_run(
        run,
        {MODEL: CHAMPION, HYBRID: CHAMPION_HYBRID},
        lambda version: _evaluate(load_release(run.registry, version), read_training_data(as_of, settings), run),
        known_at,
    )


def _interest_at(registry: Registry, as_of: datetime) -> Version:
    found = registry.standing("interest_evolution", as_of)
    if found is None:
        raise NoInterestModel(
            f"No interest_evolution version with a cutoff up to {Day.of(as_of)} was promoted, so there is no long-term "
            "interest to tune with. Train and gate the interest model first; `interest status` says what was held."
        )
    return found


def _train(data: TrainingData, run: ModelRun, bound: Version) -> None:
    """Learn before the validation window, choose on it, save with the popularity of the cutoff."""
    split, catalogue, settings = data.split, data.catalogue, run.settings
    chosen, interest = settings.training, load_interest(run.registry, bound)
    vectors = data.text_vectors(catalogue)[0]
    include_seen = settings.recommending.include_seen
    config = CollaborativeFilterConfig(
        seed=chosen.seed,
        include_seen=include_seen,
        horizon_days=float(settings.evaluation.test_days),
        max_seconds=chosen.max_seconds,
        new_days_only=chosen.filter_start == "new days",
    )
    champion = run.champion() if chosen.filter_start != "anew" else None
    previous = CollaborativeFilter.load(run.registry.fetch(champion)) if champion else None
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
    run.folder.keep(
        release.save,
        {
            "interest_version": bound.number,
            "warm_start": champion and champion.number,
            "seconds": perf_counter() - began,
            "curves": tuned.curves,
        },
    )


def _evaluate(release: Release, data: TrainingData, run: ModelRun) -> dict:
    """The filter and the hybrid beside the champion's and the baselines, and the placebo tables."""
    began = perf_counter()
    split, catalogue = data.split, data.catalogue
    known, test = split.known(data.histories), split.test(data.histories)
    release.observe(known, split.test_start)
    champion = run.champion()
    recommenders: dict[str, Recommender] = {MODEL: release.filter_part, HYBRID: release}
    if champion is not None:
        before = load_release(run.registry, champion)
        before.observe(data.histories_in(before.catalogue, before.event_types), split.test_start)
        recommenders[CHAMPION] = InCatalogue(before.filter_part, before.catalogue, catalogue, CHAMPION)
        recommenders[CHAMPION_HYBRID] = InCatalogue(before, before.catalogue, catalogue, CHAMPION_HYBRID)
    recommenders |= {part.name: part for part in (release.interest_part, release.content)}
    for baseline in baselines(run.settings.training.seed):
        recommenders[baseline.name] = baseline.fit(known, catalogue, split.test_start)
    asked, how = (known, test, catalogue, split.test_start), run.comparing(release.vectors)
    comparison = compare(recommenders, *asked, reference=CHAMPION if champion else "popularity", **how)
    earlier = release.encode(known.before(split.test_start - timedelta(days=EARLIER_DAYS)))
    placebo = placebo_table(
        release.filter, *asked, release.encode(known), earlier={f"{EARLIER_DAYS}_days_ago": earlier}, **how
    )
    exchanged = hybrid_placebo(release.hybrid, release.filter, release.encode, *asked, **how)
    return run.evaluation(
        comparison,
        split,
        release.space_id,
        weights=release.hybrid.weights,
        placebo=placebo.to_dict(),
        hybrid_placebo=exchanged.to_dict(),
        seconds=perf_counter() - began,
    )
