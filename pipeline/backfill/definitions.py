"""
What each table is made by, as one hash: the code of the feature, the contract, and the settings that matter.

A write notes the hash of its day. A day with another hash was made by another definition, and is stale. Code is hashed
as a syntax tree without docstrings, so comments and formatting change nothing.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.contracts import (
    BEHAVIOR_EVENTS,
    INTEREST_WINDOWS,
    LONG_TERM_INTEREST,
    RECOMMENDATIONS,
    SEQUENCE_FEATURES,
    Table,
)
from pipeline.settings import Settings

PACKAGE = Path(__file__).parents[1]
LOGIC = ("events", "features", "models")


@dataclass(frozen=True)
class Definition:
    """What a table is made by: these modules and what they import of the logic, and some settings.

    `upstream`: the tables whose rows it is made from, on the same day.
    """

    code: tuple[str, ...]
    upstream: tuple[Table, ...]
    settings: Callable[[Settings], Mapping[str, object]]
    by_catalogue: bool = False
    """Whether it is made from the categories of the item catalogue, too."""


DEFINITIONS: dict[Table, Definition] = {
    BEHAVIOR_EVENTS: Definition(
        code=("events/contract_checks.py",),
        upstream=(),
        settings=lambda settings: {
            "event_types": sorted(settings.logs.event_weights),
            "earliest_event": settings.logs.earliest_event,
            "day_end_tolerance_minutes": settings.logs.day_end_tolerance_minutes,
        },
    ),
    SEQUENCE_FEATURES: Definition(
        code=("features/sequences.py",),
        upstream=(BEHAVIOR_EVENTS,),
        settings=lambda settings: {"sequence_length": settings.features.sequence_length},
    ),
    INTEREST_WINDOWS: Definition(
        code=("features/interest_windows.py",),
        upstream=(BEHAVIOR_EVENTS,),
        settings=lambda settings: {"event_weights": settings.logs.event_weights},
        by_catalogue=True,
    ),
    LONG_TERM_INTEREST: Definition(
        code=("features/histories.py", "models/encoders.py", "models/heads.py", "models/interest_vectors.py"),
        upstream=(SEQUENCE_FEATURES,),
        settings=lambda settings: {},
    ),
    RECOMMENDATIONS: Definition(
        code=("models/release.py",),
        upstream=(SEQUENCE_FEATURES,),
        settings=lambda settings: {
            "depth": settings.recommending.depth,
            "include_seen": settings.recommending.include_seen,
            "diversity": settings.recommending.diversity,
        },
    ),
}
"""In the order in which a day is made."""


def definition_of(table: Table, settings: Settings) -> str:
    """The hash of what the table is made by now."""
    made_by = DEFINITIONS[table]
    facts = {
        "contract": table.version,
        "code": code_hash(made_by.code, PACKAGE),
        "settings": made_by.settings(settings),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:12]


@cache
def code_hash(names: tuple[str, ...], package: Path) -> str:
    """The hash of what some modules do, and what they import of the logic. A running process keeps its code."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            source = (package / name).read_text(encoding="utf-8")
            found[name] = hash_of_source(source)
            waiting += _imported(source)
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _imported(source: str) -> list[str]:
    """The files of the modules of `LOGIC` that a source imports."""
    modules = [node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    matches = (re.fullmatch(rf"pipeline\.({'|'.join(LOGIC)})\.(\w+)", module) for module in modules)
    return [f"{match[1]}/{match[2]}.py" for match in matches if match]


def hash_of_source(source: str) -> str:
    """The hash of a module's syntax tree without its docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
