"""Settings of learning: how models are trained, judged, promoted and asked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.settings.group import Group


class Training(Group):
    """How training is run. What is trained is the model's own configuration."""

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="`auto` takes a GPU where there is one.")
    seed: int = Field(default=7, ge=0, description="The seed of everything random.")
    max_epochs: int = Field(default=10, ge=1, description="The most epochs of the interest model.")
    patience: int = Field(default=4, ge=1, description="Epochs without a better validation score before it stops.")
    max_seconds: float = Field(default=300.0, gt=0, description="Seconds after which a model begins no new epoch.")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="What the encoder of the interest model computes in; its weights stay float32."
    )
    compile: Literal["", "inductor"] = Field(
        default="", description="The backend with which torch.compile makes that encoder quicker; empty: it does not."
    )
    conflict_every: int = Field(
        default=0, ge=0, description="Batches after which the conflict between the heads is measured; 0: never."
    )
    processes: int = Field(
        default=1, ge=1, le=64, description="Processes that share every batch, one for each GPU where there are any."
    )
    filter_start: Literal["anew", "last version", "new days"] = Field(
        default="anew",
        description="Where the collaborative filter begins: anew; at the promoted version; at that, and then it learns "
        "from the days after it alone. Anew is the best (docs/benchmarks.md).",
    )
    model: dict[str, object] = Field(
        default={}, description="Fields of the interest model's configuration to change in the next training."
    )


class Evaluation(Group):
    """The split by time, and how sure a comparison must be."""

    test_days: int = Field(default=14, ge=1, description="Days before the cutoff that no training row sees.")
    validation_days: int = Field(default=14, ge=1, description="Days before those, on which checkpoints are chosen.")
    bootstrap_samples: int = Field(default=1000, ge=100, description="Resamples of users for an interval.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Confidence of every interval.")


class GateRule(Group):
    """One condition for promotion: the challenger may lose at most `max_drop` of `metric` on `cohort`, or must gain."""

    metric: str = Field(default="ndcg@10", description="A metric of the comparison.")
    cohort: str = Field(
        default="all",
        description="The users, or the items, on whom it is compared; `each group`: a rule for every group of users.",
    )
    max_drop: float = Field(default=0.05, ge=0, description="Share of the champion's value that may be lost.")
    min_gain: float | None = Field(
        default=None, ge=0, description="Where given: the share that must be gained; `max_drop` is not read then."
    )
    min_users: int = Field(default=20, ge=1, description="With fewer users the rule is reported, not enforced.")
    evidence: Literal["mean", "interval", "certain_loss"] = Field(
        default="mean",
        description="What is held against the bound: the mean; the interval's bad end (passes only what is certain to "
        "be within it, needs thousands of users); or its good end (fails only what is certain to be beyond it).",
    )


class Gate(Group):
    """When a challenger becomes the champion."""

    rules: tuple[GateRule, ...] = Field(
        default=(
            GateRule(metric="ndcg@10", cohort="all", max_drop=0.05),
            GateRule(metric="recall@50", cohort="all", max_drop=0.05),
            GateRule(metric="ndcg@10", cohort="heavy", max_drop=0.15),
            GateRule(metric="recall@50", cohort="each group", max_drop=0.10, evidence="certain_loss"),
        ),
        description="All of them must hold.",
    )
    beats_popularity: bool = Field(
        default=True, description="The same rules hold a first champion against popularity, on all users."
    )
    probes: Path | None = Field(
        default=None, description="The folder of the probes that are replayed; feature_repo/probes where not given."
    )


class Recommending(Group):
    """The daily recommendations."""

    depth: int = Field(default=100, ge=1, le=1000, description="Items for each user.")
    include_seen: bool = Field(default=False, description="Whether an item may be recommended again.")
    diversity: float = Field(
        default=0.0, ge=0, le=1,
        description="How much a list is made of items whose texts are unlike, by maximal marginal relevance; 0: by "
        "score alone.",
    )


class Spaces(Group):
    """Which embedding spaces are read. A new interest model is a new space."""

    still_read: tuple[str, ...] = Field(
        default=(),
        description="Space ids that consumers read. Where the space before the present one is among them, "
        "`long_term_interest_mapped` is written and served; declare an id when you begin to read it.",
    )
