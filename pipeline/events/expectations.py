"""
Great Expectations' verdict on a day, or on many days in one run.

Two suites, built from the contract and from `settings.quality`: `behavior_events` looks at the rows that would be
published, `behavior_events_days` at one line of measures a day. A check that could not be carried out is an
EngineFailure, never bad data.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.contracts import BEHAVIOR_EVENTS, PARTITION_COLUMN, UTC_TIME
from pipeline.errors import ContractViolation, EngineFailure
from pipeline.events.contract_checks import LATEST, RowRules
from pipeline.events.measures import MEASURES
from pipeline.settings import Quality

ROWS_SUITE = BEHAVIOR_EVENTS.name
DAYS_SUITE = f"{BEHAVIOR_EVENTS.name}_days"
PAGES_IN_INDEX = 60


@dataclass(frozen=True)
class Finding:
    """A measure of one day that is outside what the settings allow."""

    measure: str
    found: float
    limit: float

    def __str__(self) -> str:
        if self.measure == "unexpectedly_empty":
            return "the day has no event and is not expected to be empty"
        return f"{self.measure} {self.found:.3g} (limit {self.limit:g})"


@dataclass(frozen=True)
class Verdict:
    """What the suites say, by day key. A day with a failure is not published."""

    failures: dict[str, list[Finding]] = field(default_factory=dict)
    warnings: dict[str, list[Finding]] = field(default_factory=dict)


class QualityGate:
    """Runs the suites, keeps each result by run key, and writes Data Docs.

    Args:
        folder: where results and pages are kept; None keeps nothing.
    """

    def __init__(self, quality: Quality, rules: RowRules, folder: Path | None = None):
        self.quality = quality
        self.rules = rules
        self.folder = folder
        with _as_engine_failure("Great Expectations could not be started"):
            self.gx = _great_expectations()
            self.context = self.gx.get_context(project_config=_project(self.gx, folder), mode="ephemeral")
            self.source = self.context.data_sources.add_pandas("pipeline")
            self.batches: dict[str, Any] = {}

    def judge_days(self, measures: pl.DataFrame) -> tuple[Verdict, Any]:
        """The verdict on one line of measures a day, and the result to keep. Raises EngineFailure."""
        result = self._run(DAYS_SUITE, _day_expectations(self.gx, self.quality), measures.to_pandas(), "COMPLETE")
        verdict = Verdict()
        for check in result.results:
            if check.success:
                continue
            configuration = check.expectation_config
            severity = str(getattr(configuration.severity, "value", configuration.severity))
            by_day = verdict.failures if severity == "critical" else verdict.warnings
            measure, limit = configuration.kwargs["column"], configuration.kwargs["max_value"]
            for row in check.result["unexpected_index_list"]:
                by_day.setdefault(row[PARTITION_COLUMN], []).append(Finding(measure, float(row[measure]), limit))
        for key, failed in verdict.failures.items():
            worse = {finding.measure for finding in failed}
            verdict.warnings[key] = [f for f in verdict.warnings.get(key, []) if f.measure not in worse]
        return verdict, result

    def check_rows(self, events: pl.DataFrame) -> Any:
        """Look at the rows themselves once more; gives back the result to keep.

        Raises:
            ContractViolation: a row that the row checks let pass breaks the contract.
            EngineFailure: the checks could not be carried out.
        """
        result = self._run(ROWS_SUITE, _row_expectations(self.gx, self.rules), _as_pandas(events), "BASIC")
        # Only a result without an offending row is ever kept, so no user id stands on a page.
        broken = [check.expectation_config for check in result.results if not check.success]
        if broken:
            facts = "; ".join(f"{c.type}({c.kwargs.get('column', '')})" for c in broken)
            raise ContractViolation(f"{ROWS_SUITE}: rows break the contract after the row checks: {facts}.")
        return result

    def keep(self, results: Iterable[Any], run_key: str, moment: datetime) -> None:
        """Store results under the run key (a second run replaces them) and write their pages and the index."""
        if self.folder is None:
            return
        from filelock import FileLock

        with _as_engine_failure("Data Docs could not be written"):
            from great_expectations.data_context.types.resource_identifiers import (
                ExpectationSuiteIdentifier,
                ValidationResultIdentifier,
            )

            run_id = self.gx.RunIdentifier(run_name=run_key, run_time=moment)
            self.folder.mkdir(parents=True, exist_ok=True)
            # Several days are published at once; the index is one file.
            with FileLock(self.folder / ".lock", timeout=120):
                keys = []
                for result in results:
                    result.meta["run_id"] = run_id
                    suite = ExpectationSuiteIdentifier(result.suite_name)
                    key = ValidationResultIdentifier(suite, run_id, result.suite_name)
                    self.context.validation_results_store.set(key, result)
                    keys.append(key)
                self.context.build_data_docs(resource_identifiers=keys)

    def _run(self, name: str, expectations: list[Any], frame: Any, result_format: str) -> Any:
        gx = self.gx
        with _as_engine_failure(f"The suite {name} could not be run"):
            if name not in self.batches:
                asset = self.source.add_dataframe_asset(name)
                self.batches[name] = asset.add_batch_definition_whole_dataframe(name)
            suite = self.context.suites.add_or_update(gx.ExpectationSuite(name=name, expectations=expectations))
            wanted = {"result_format": result_format, "unexpected_index_column_names": [PARTITION_COLUMN]}
            # Not Validator.validate: it silently keeps one of two expectations that differ in their limit only.
            result = (
                self.batches[name]
                .get_batch({"dataframe": frame})
                .validate(suite, result_format=wanted if result_format == "COMPLETE" else result_format)
            )
        if len(result.results) != len(expectations):
            raise EngineFailure(f"The suite {name} answered {len(result.results)} of {len(expectations)} checks.")
        broken = [check for check in result.results if _raised(check.exception_info)]
        if broken:
            first = broken[0]
            raise EngineFailure(
                f"The suite {name} could not be run: {first.expectation_config.type} on "
                f"{first.expectation_config.kwargs.get('column')!r} raised {_message_of(first.exception_info)!r}. "
                "This says nothing about the data. Nothing was published; run the day again."
            )
        return result


def _day_expectations(gx: Any, quality: Quality) -> list[Any]:
    between = gx.expectations.ExpectColumnValuesToBeBetween
    checks = []
    for measure in MEASURES:
        limits = getattr(quality, measure)
        checks.append(between(column=measure, max_value=limits.warn, severity="warning"))
        checks.append(between(column=measure, max_value=limits.fail, severity="critical"))
    stops = quality.unexpected_empty_day == "fail"
    checks.append(between(column="unexpectedly_empty", max_value=0, severity="critical" if stops else "warning"))
    return checks


def _row_expectations(gx: Any, rules: RowRules) -> list[Any]:
    e = gx.expectations
    names = [*BEHAVIOR_EVENTS.names, PARTITION_COLUMN]
    checks: list[Any] = [
        e.ExpectTableColumnsToMatchOrderedList(column_list=names),
        e.ExpectCompoundColumnsToBeUnique(column_list=[PARTITION_COLUMN, *BEHAVIOR_EVENTS.key]),
        e.ExpectColumnValuesToBeInSet(column="event_type", value_set=sorted(rules.event_types)),
    ]
    for column in BEHAVIOR_EVENTS.columns:
        if column.required:
            checks.append(e.ExpectColumnValuesToNotBeNull(column=column.name))
        if column.max_length is not None:
            checks.append(
                e.ExpectColumnValueLengthsToBeBetween(column=column.name, min_value=1, max_value=column.max_length)
            )
        if column.dtype == UTC_TIME:
            checks.append(
                e.ExpectColumnValuesToBeBetween(column=column.name, min_value=rules.earliest, max_value=LATEST)
            )
        if column.dtype == pl.Float64 and (column.minimum is not None or column.maximum is not None):
            checks.append(
                e.ExpectColumnValuesToBeBetween(
                    column=column.name, min_value=column.minimum, max_value=column.maximum
                )
            )
    return checks


def _as_pandas(events: pl.DataFrame) -> Any:
    return events.select(*BEHAVIOR_EVENTS.names, PARTITION_COLUMN).to_pandas()


def _project(gx: Any, folder: Path | None) -> Any:
    from great_expectations.data_context.types.base import DataContextConfig

    def kept(name: str) -> dict[str, str]:
        return {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder / name)}

    results: dict[str, Any] = {"class_name": "ValidationResultsStore"}
    sites = {}
    if folder is not None:
        results["store_backend"] = kept("results")
        sites["pages"] = {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": kept("pages"),
            # A page is written once; the index reads only so many results, however long the history is.
            "site_index_builder": {
                "class_name": "DefaultSiteIndexBuilder",
                "validation_results_limit": PAGES_IN_INDEX,
            },
        }
    return DataContextConfig(
        config_version=4.0,
        analytics_enabled=False,
        progress_bars={"globally": False},
        expectations_store_name="suites",
        validation_results_store_name="results",
        checkpoint_store_name="checkpoints",
        stores={
            "suites": {"class_name": "ExpectationsStore"},
            "results": results,
            "checkpoints": {"class_name": "CheckpointStore"},
            "validation_definition_store": {"class_name": "ValidationDefinitionStore"},
        },
        data_docs_sites=sites,
    )


def _great_expectations() -> Any:
    """The library, imported without Spark.

    GX imports `pyspark.sql.connect`, and that ends the process with exit code 0 where the main module has no file
    (`python -c`, spawned workers) and an optional package of Spark is absent: a day would count as done.
    """
    loaded = "pyspark" in sys.modules
    if not loaded:
        sys.modules["pyspark"] = None  # type: ignore[assignment]
    try:
        import great_expectations
        import great_expectations.expectations
    finally:
        if not loaded:
            del sys.modules["pyspark"]
    return great_expectations


class _as_engine_failure:
    def __init__(self, what: str):
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            raise EngineFailure(
                f"{self.what}: {type(error).__name__}: {error}. This says nothing about the data. "
                "Nothing was published; run the day again."
            ) from error


def _raised(info: dict[str, Any]) -> bool:
    """GX reports an exception flat, or under the id of each metric that raised."""
    if "raised_exception" in info:
        return bool(info["raised_exception"])
    return any(_raised(entry) for entry in info.values() if isinstance(entry, dict))


def _message_of(info: dict[str, Any]) -> str:
    if "exception_message" in info:
        return str(info["exception_message"])
    return next((_message_of(entry) for entry in info.values() if isinstance(entry, dict)), "")
