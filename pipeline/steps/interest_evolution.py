"""
Trains the interest-evolution model as of a cutoff, measures it on the last days before it, and lets the gate decide.

A run key registers one version. A retry goes on from the last checkpoint, and skips a training that was finished.
"""

from __future__ import annotations

from datetime import datetime
from time import perf_counter

from pipeline.evaluation.compare import compare
from pipeline.evaluation.placebo import staleness_table
from pipeline.models.baselines import baselines
from pipeline.models.interest_config import InterestEvolutionConfig
from pipeline.models.interest_evolution import InterestEvolutionModel
from pipeline.models.recommender import Recommender
from pipeline.models.translation import recommender_in
from pipeline.serving.registered_model import example_rows
from pipeline.serving.releases import load_interest
from pipeline.settings import Settings
from pipeline.steps.gate import GateOutcome, gate_run
from pipeline.steps.model_runs import CHAMPION, ModelRun, RunFolder, TrainedVersion
from pipeline.steps.probes import replay_probes
from pipeline.steps.spaces import map_to_last_space
from pipeline.steps.training_data import TrainingData, read_training_data
from pipeline.stores.model_versions import Version
from pipeline.stores.registry import Registry
from pipeline.training.epochs import TrainingRun
from pipeline.training.together import train_together

MODEL = "interest_evolution"

def train_interest_model(
    as_of: datetime, settings: Settings, known_at: datetime, backtest: bool = False
) -> TrainedVersion:
    """Train, measure and register the version of a cutoff. Twice is the same as once; a crash loses one epoch.

    Args:
        as_of: the first moment that is no longer in the data, for example the end of a week.
        backtest: whether it is trained to look back: under a run key of its own, and never to serve.

    Raises:
        BadPartition: no event lies before the validation window.
        FloatingPointError: the loss is not finite.
    """
    run = ModelRun(MODEL, as_of, settings, backtest)
    if (finished := run.finished()) is not None:
        return finished
    data = read_training_data(as_of, settings)
    if not run.folder.is_trained:
        _train(data, run.folder, settings)
    model = InterestEvolutionModel.from_pretrained(run.folder.model)
    return run.register(
        data,
        _evaluate(model, data, run),
        example=example_rows(data.split.known(data.histories), data.catalogue),
        params={name: value for name, value in model.config.to_diff_dict().items() if isinstance(value, int | float)},
        lineage={"text_space_id": model.config.text_space_id},
    )


def gate_interest_model(as_of: datetime, settings: Settings, known_at: datetime) -> GateOutcome:
    """Promote or hold the version of a cutoff, by the rules and by the probes of other teams.

    Days that it should have served are written by `restate_interest`.

    Raises:
        BadSetting: a file of `feature_repo/probes` is not a probe.
        NotFound: the run has not registered a version.
    """
    run = ModelRun(MODEL, as_of, settings)
    outcome = gate_run(
        run,
        {MODEL: CHAMPION},
        lambda version: _evaluate(load_interest(run.registry, version), read_training_data(as_of, settings), run),
        known_at,
        probes=lambda version: replay_probes(load_interest(run.registry, version), as_of, settings),
    )
    if outcome.promoted:
        map_to_last_space(as_of, settings)
    return outcome


def _train(data: TrainingData, run: RunFolder, settings: Settings) -> None:
    """Learn before the validation window, choose the epoch on it, save with the popularity of the cutoff."""
    vectors, text_space = data.text_vectors(data.catalogue)
    chosen = settings.training
    config = InterestEvolutionConfig.changed(
        {"text_space_id": text_space, "new_items_only": not settings.recommending.include_seen, **chosen.model}
    )
    trained = train_together(
        data.split.train(data.histories),
        data.split.validation(data.histories),
        data.catalogue,
        vectors,
        config,
        run=TrainingRun(
            seed=chosen.seed,
            device=chosen.device,
            max_epochs=chosen.max_epochs,
            patience=chosen.patience,
            max_seconds=chosen.max_seconds,
            checkpoint_dir=run.checkpoints,
            precision=chosen.precision,
            compile=chosen.compile,
            conflict_every=chosen.conflict_every,
        ),
        processes=chosen.processes,
    )
    # What is popular is a state, not a weight: the version serves from the cutoff on, so it may know all before it.
    model = trained.model.observe(data.histories, data.split.as_of)
    names = [name for name in (trained.curves[0] if trained.curves else {}) if name not in ("epoch", "seconds")]
    run.keep(
        model.save_pretrained,
        {
            "best_epoch": trained.best_epoch,
            "stopped_because": trained.stopped_because,
            "seconds": trained.seconds,
            "curves": {name: [epoch[name] for epoch in trained.curves] for name in names},
        },
    )


def _evaluate(model: InterestEvolutionModel, data: TrainingData, run: ModelRun) -> dict:
    """The model beside the champion and the baselines, all knowing what was known when the test window began."""
    began = perf_counter()
    split, catalogue = data.split, data.catalogue
    known, test = split.known(data.histories), split.test(data.histories)
    champion = run.champion()
    recommenders: dict[str, Recommender] = {MODEL: model.observe(known, split.test_start)}
    if champion is not None:
        recommenders[CHAMPION] = _champion_in(run.registry, champion, data)
    for baseline in baselines(run.settings.training.seed):
        recommenders[baseline.name] = baseline.fit(known, catalogue, split.test_start)
    asked, how = (known, test, catalogue, split.test_start), run.comparing(data.text_vectors(catalogue)[0])
    comparison = compare(recommenders, *asked, reference=CHAMPION if champion else "popularity", **how)
    stale = staleness_table(recommenders[MODEL], *asked, **how)
    space_id, seconds = model.config.space_id, perf_counter() - began
    return run.evaluation(comparison, split, space_id, staleness=stale.to_dict(), seconds=seconds)


def _champion_in(registry: Registry, champion: Version, data: TrainingData) -> Recommender:
    """The champion, told what was known when the test window began, answering in the data's catalogue."""
    model = load_interest(registry, champion)
    own = data.split.known(data.histories_in(model.catalogue, tuple(model.config.event_types)))
    return recommender_in(model.observe(own, data.split.test_start), data.catalogue, CHAMPION)
