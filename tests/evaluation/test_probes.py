"""What other teams need of a space, against spaces in which it is easy to see whether they have it."""

import numpy as np
import pytest

from pipeline.errors import BadSetting
from pipeline.evaluation.probes import parse_probe, replay
from pipeline.stores.probe_files import read_probes

SPACE = {f"a{n}": np.array([1.0, 0.1 * n], dtype=np.float32) for n in range(4)} | {
    f"b{n}": np.array([0.1 * n, 1.0], dtype=np.float32) for n in range(4)
}
FACTS = {"description": "why", "owner": "team@example.com", "of": "items", "at_least": 0.9}


def probe(**facts):
    return parse_probe("mine", FACTS | facts)


def test_neighbours_that_are_near_pass_and_those_that_are_far_fail():
    near = replay("mine", probe(neighbours={"a0": ["a1", "a2"]}, within=2), SPACE)
    assert (near.score, near.passed, near.cases, near.holds) == (1.0, True, 2, False)
    far = replay("mine", probe(neighbours={"a0": ["a1", "b0"]}, within=2), SPACE)
    assert (far.score, far.passed, far.holds) == (0.5, False, True)
    assert far.reason == "failed: probe mine of team@example.com: 50% of 2 held, at least 90% must; 0 unknown."


def test_a_label_is_recognised_by_those_who_share_it():
    told_apart = replay("mine", probe(of="users", labels={one: one[0] for one in SPACE}), SPACE)
    assert (told_apart.score, told_apart.cases) == (1.0, 8)
    mixed = replay("mine", probe(labels={"a0": "x", "a1": "y", "b0": "x", "b1": "y"}), SPACE)
    assert mixed.score < 0.9 and mixed.holds


def test_a_probe_that_only_reports_holds_nothing():
    result = replay("mine", probe(neighbours={"a0": ["b0"]}, within=1, blocking=False), SPACE)
    assert result.passed is False and not result.holds
    assert result.reason.startswith("failed, only reported: ")


def test_ids_that_the_space_does_not_know_are_counted_and_decide_nothing():
    result = replay("mine", probe(neighbours={"a0": ["zz"], "yy": ["a1"]}), SPACE)
    assert (result.passed, result.cases, result.unknown, result.holds) == (None, 0, 2, False)
    partly = replay("mine", probe(neighbours={"a0": ["zz", "a1"]}, within=1), SPACE)
    assert (partly.score, partly.unknown) == (1.0, 1)
    assert replay("mine", probe(labels={"a0": "x", "zz": "y"}), SPACE).passed is None
    assert replay("mine", probe(neighbours={"a0": ["a1"]}), {}).passed is None


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"neighbours": {"a": ["b"]}, "owner": ""}, "owner"),
        ({"neighbours": {"a": ["b"]}, "labels": {"a": "x", "b": "y"}}, "either `neighbours` or `labels`"),
        ({}, "either `neighbours` or `labels`"),
        ({"labels": {"a": "x", "b": "x"}}, "at least two different"),
        ({"neighbours": {"a": ["b"]}, "at_least": 2}, "at_least"),
        ({"neighbours": {"a": ["b"]}, "of": "films"}, "of: "),
        ({"neigbours": {"a": ["b"]}}, "neigbours"),
    ],
)
def test_what_is_no_probe_is_refused_with_its_name_and_what_is_wrong(facts, named):
    with pytest.raises(BadSetting, match="The probe mine is not one") as caught:
        parse_probe("mine", FACTS | facts)
    assert named in str(caught.value)


def test_a_file_that_is_not_yaml_is_named_and_the_shipped_ones_are_probes(tmp_path):
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(BadSetting, match=r"broken\.yaml cannot be read as YAML"):
        read_probes(tmp_path)
    shipped = read_probes()
    assert shipped
    assert [parse_probe(name, described).description for name, described in shipped.items()]
