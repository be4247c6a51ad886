"""The rungs of the ablation: each is the one before with one part more, and the last one is the whole model."""

from pipeline.benchmark.ablation import SWITCHES, rungs_of
from pipeline.benchmark.questions import split_log
from pipeline.models.interest_config import InterestEvolutionConfig


def test_every_rung_adds_one_part_and_the_last_leaves_nothing_out(log_of):
    lines = [f"u{n % 5},{n % 3},2026-01-{n + 1:02d}" for n in range(25)]
    split = split_log(log_of(lines, ["0,one,a", "1,two,b", "2,three,a"]), "time", 0.8)
    rungs = [*rungs_of(split, split.catalogue.category_matrix())]
    assert [name for name, _ in rungs] == ["id only", "+ text", "+ all-action", "+ category mix", "+ trend", "+ time",
                                           "+ pooled history"]
    assert rungs[-1][1] == {} and [len(changes) for _, changes in rungs] == [6, 5, 4, 3, 2, 1, 0]
    names = [name for name, _ in rungs_of(split_log(log_of(lines), "time", 0.8), None)]
    assert names == ["id only", "+ all-action", "+ trend", "+ time", "+ pooled history"]


def test_every_switch_turns_off_what_is_on_by_default():
    whole = InterestEvolutionConfig()
    assert all(getattr(whole, field) and not off for field, off in SWITCHES.values())
