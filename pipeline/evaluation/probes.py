"""
Probes: what other teams need to stay true of an embedding space, replayed against every candidate.

Two kinds. `neighbours`: of each named item (or user) the named others must lie among its `within` nearest by cosine.
`labels`: users (or items) of one label must lie together, so that who stands nearest to the mean of the others with
its label is recognised (leave-one-out nearest centroid). A score is a share in [0, 1]; a probe passes when it is at
least `at_least`. Ids that a space does not know are counted and left out; with fewer than `FEWEST_CASES` known cases a
probe is not enforced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import BadSetting

FEWEST_CASES = 1


class Probe(BaseModel):
    """One file under `feature_repo/probes/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str = Field(min_length=1, description="what would break for whom")
    owner: str = Field(min_length=1, description="who is asked when it fails")
    of: Literal["items", "users"]
    neighbours: dict[str, tuple[str, ...]] = Field(default={}, description="an id, and who must stay near it")
    within: int = Field(default=20, ge=1, description="how many nearest count as near")
    labels: dict[str, str] = Field(default={}, description="an id, and its label")
    at_least: float = Field(gt=0, le=1, description="the share that must hold")
    blocking: bool = Field(default=True, description="whether a failure holds the promotion, or is only reported")

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Probe:
        if bool(self.neighbours) == bool(self.labels):
            raise ValueError("give either `neighbours` or `labels`")
        if self.labels and len(set(self.labels.values())) < 2:
            raise ValueError("`labels` need at least two different ones")
        return self


@dataclass(frozen=True)
class ProbeResult:
    """What came of one probe. `passed` is None where too few of its ids are known."""

    name: str
    owner: str
    blocking: bool
    cases: int
    unknown: int
    score: float | None
    at_least: float
    passed: bool | None
    reason: str

    @property
    def holds(self) -> bool:
        """Whether it holds a promotion."""
        return self.blocking and self.passed is False


def parse_probe(name: str, described: object) -> Probe:
    """A probe from what its file says. Raises BadSetting, which names file, field and what was expected."""
    try:
        return Probe.model_validate(described)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise BadSetting(
            f"The probe {name} is not one: {faults}. Until it is mended, nothing is promoted; an "
            "example lies beside it."
        ) from None


def replay(name: str, probe: Probe, vectors: Mapping[str, np.ndarray]) -> ProbeResult:
    """Try a probe in a space.

    Args:
        vectors: float32 [dim] by id; all items of the space, or the probe's users.
    """
    ids = sorted(vectors)
    table = np.stack([vectors[one] for one in ids]) if ids else np.zeros((0, 1), dtype=np.float32)      # [ids, dim]
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    unit = np.divide(table, lengths, out=np.zeros_like(table), where=lengths > 0)
    place = {one: row for row, one in enumerate(ids)}
    held, unknown = _neighbours(probe, unit, place) if probe.neighbours else _labels(probe, unit, place)
    score = float(np.mean(held)) if len(held) >= FEWEST_CASES else None
    passed = None if score is None else score >= probe.at_least
    verdict = {None: "not enforced", True: "passed", False: "failed" if probe.blocking else "failed, only reported"}
    found = "none of its ids is known" if score is None else (
        f"{score:.0%} of {len(held)} held, at least {probe.at_least:.0%} must; {unknown} unknown"
    )
    reason = f"{verdict[passed]}: probe {name} of {probe.owner}: {found}."
    return ProbeResult(
        name, probe.owner, probe.blocking, len(held), unknown, score, probe.at_least, passed, reason
    )


def _neighbours(probe: Probe, unit: np.ndarray, place: Mapping[str, int]) -> tuple[list[bool], int]:
    """Whether each named pair is near, and how many pairs have an id without a vector."""
    held, unknown = [], 0
    for one, others in sorted(probe.neighbours.items()):
        known = [place[other] for other in others if other in place and one in place and other != one]
        unknown += len(others) - len(known)
        if known:
            similar = unit @ unit[place[one]]                                                           # [ids]
            similar[place[one]] = -np.inf
            held += [bool((similar > similar[other]).sum() < probe.within) for other in known]
    return held, unknown


def _labels(probe: Probe, unit: np.ndarray, place: Mapping[str, int]) -> tuple[list[bool], int]:
    """Whether each known id is nearest to the mean of the others with its label."""
    known = sorted(one for one in probe.labels if one in place)
    names = sorted({probe.labels[one] for one in known})
    if len(names) < 2:
        return [], len(probe.labels) - len(known)
    rows = unit[[place[one] for one in known]]                                                          # [known, dim]
    labels = np.array([names.index(probe.labels[one]) for one in known])
    sums = np.stack([rows[labels == label].sum(axis=0) for label in range(len(names))])                 # [labels, dim]
    counts = np.bincount(labels, minlength=len(names))
    held = []
    for row, label in zip(rows, labels, strict=True):
        own = np.arange(len(names)) == label
        means = (sums - own[:, None] * row) / np.maximum(counts - own, 1)[:, None]
        similar = means @ row / np.maximum(np.linalg.norm(means, axis=1), 1e-12)
        similar[counts - own == 0] = -np.inf
        held.append(bool(similar.argmax() == label))
    return held, len(probe.labels) - len(known)
