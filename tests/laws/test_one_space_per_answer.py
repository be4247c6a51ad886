"""Law 8: user vector, item index and factors of one answer share a space; they are swapped together, both ways."""

import threading
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.contracts import LONG_TERM_INTEREST, RECOMMENDATIONS
from pipeline.partitions import Day
from pipeline.settings import Online, Settings
from pipeline.steps.long_term_interest import embed_users
from pipeline.steps.recommendations import recommend_items
from pipeline.steps.releases import RELEASE, restate_release, roll_back
from pipeline.stores.promotions import promote
from pipeline.stores.registry import Registry
from pipeline.stores.tables import Lake

VECTORS, LISTS = LONG_TERM_INTEREST.name, RECOMMENDATIONS.name
NOW = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "redis"])
def swapped(request, two_releases: Settings) -> Settings:
    """A home with two releases, whose second has not been promoted yet, and a service that reads both views."""
    from feast import FeatureService

    from pipeline.stores.feature_store import apply_definitions, open_feature_store

    settings = two_releases
    if request.param == "redis":
        online = Online(type="redis", url=request.getfixturevalue("redis_address"))
        settings = two_releases.model_copy(update={"online": online})
    apply_definitions(settings)
    store = open_feature_store(settings)
    views = [store.get_feature_view(name) for name in (VECTORS, LISTS)]
    store.apply([FeatureService(name="both", features=views)])
    Registry(settings).mlflow.client.set_model_version_tag(RELEASE, "2", "status", "candidate")
    return settings


class Reader(threading.Thread):
    """Asks for one user again and again, and keeps what was answered."""

    def __init__(self, settings: Settings, ask):
        super().__init__(daemon=True)
        self.settings, self.ask, self.answers, self.failures = settings, ask, [], []
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            try:
                self.answers.append(self.ask(self.settings))
            except Exception as error:
                self.failures.append(error)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_failure) -> None:
        self.done.set()
        self.join(60)


def looked_up(settings: Settings):
    from pipeline.serving.lookup import look_up

    return look_up(settings, "u07", "both", NOW)


def recommended(settings: Settings):
    from pipeline.serving.recommend import recommend

    return recommend(settings, ["u07"], 5, NOW)


@pytest.mark.fault("rollback under load: one space per answer")
def test_no_answer_mixes_two_spaces_while_a_release_is_promoted_and_rolled_back(swapped, planted_start, known_at):
    day = Day.of(planted_start + timedelta(weeks=8))
    registry = Registry(swapped)
    first, second = (version.space_id for version in registry.versions(RELEASE))
    embed_users(day, swapped, known_at, everyone=True)
    recommend_items(day, swapped, known_at)
    with Reader(swapped, looked_up) as reader, Reader(swapped, recommended) as ranker:
        promote(registry, registry.version(RELEASE, 2), ["for tests"], "tests", known_at)
        restate_release(swapped, known_at + timedelta(hours=1))
        roll_back(None, "for tests", "tests", swapped, known_at + timedelta(hours=2))
    assert not reader.failures and not ranker.failures
    rows = Lake.of(swapped).read(LONG_TERM_INTEREST, day).filter(pl.col("user_id") == "u07")
    vectors = dict(rows.select("space_id", "vector").iter_rows())
    seen = []
    for answer in reader.answers:
        found = [view for view in answer.views.values() if view.status != "withheld"]
        spaces = {view.space_id for view in found}
        assert len(spaces) == 1, "an answer of two spaces"
        seen += spaces
        if answer.views[VECTORS].status != "withheld":
            vector = answer.views[VECTORS]
            assert vector.values["vector"] == pytest.approx(list(vectors[vector.space_id])), "half of a swap"
    assert set(seen) == {first, second}, "the reader saw no swap"
    assert seen[-1] == looked_up(swapped).views[LISTS].space_id == first
    by_release = {(answer.model_version, answer.interest_version, answer.space_id) for answer in ranker.answers}
    assert by_release <= {(1, 1, first), (2, 2, second)}
