"""What a check-up found: what is there, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["ok", "warning", "error"]


class Finding(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True)

    check: str
    severity: Severity
    found: str
    expected: str = ""
    remedy: str = ""


class Diagnosis(BaseModel):
    """All findings of one check-up."""

    model_config = ConfigDict(frozen=True)

    subject: str
    findings: tuple[Finding, ...]
    repaired: tuple[str, ...] = ()
    is_strict: bool = False
    """Whether a warning counts as an error."""

    @property
    def is_healthy(self) -> bool:
        if self.is_strict:
            return all(finding.severity == "ok" for finding in self.findings)
        return not any(finding.severity == "error" for finding in self.findings)

    def with_more(self, findings: Sequence[Finding]) -> Diagnosis:
        return self.model_copy(update={"findings": (*self.findings, *findings)})


def fine(check: str, found: str) -> Finding:
    return Finding(check=check, severity="ok", found=found)


def warning(check: str, found: str, expected: str, remedy: str) -> Finding:
    return Finding(check=check, severity="warning", found=found, expected=expected, remedy=remedy)


def error(check: str, found: str, expected: str, remedy: str) -> Finding:
    return Finding(check=check, severity="error", found=found, expected=expected, remedy=remedy)
