"""The check-up of what the platform stands on: Python, packages, and a home folder with room in it."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import pipeline
from pipeline.settings import Settings
from pipeline.steps.findings import Finding, error, fine, warning

PACKAGE = "interest"
LOCK = Path(pipeline.__file__).parents[1] / "requirements.lock"
PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==(?P<version>[^\s;]+)")
LITTLE_SPACE, NO_SPACE = 5 * 2**30, 2**29


def check_python() -> Iterator[Finding]:
    """The interpreter against what the package asks for."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    try:
        wanted = metadata(PACKAGE).get("Requires-Python") or ""
    except PackageNotFoundError:
        yield warning("python", f"{PACKAGE} is not installed", "an installed package", "Run `make setup`.")
        return
    if SpecifierSet(wanted).contains(found):
        yield fine("python", found)
    else:
        yield error("python", found, wanted, "Make the environment again with a Python that fits: `make clean setup`.")


def check_packages() -> Iterator[Finding]:
    """What the package declares must be installed; what the lock pins should be that version."""
    try:
        declared = [Requirement(text) for text in requires(PACKAGE) or ()]
    except PackageNotFoundError:
        return
    wrong = [fault for need in declared if (fault := _fault_of(need))]
    for fault in wrong:
        yield error("packages", fault, "what pyproject.toml declares", "Run `make setup`.")
    other = [
        text
        for name, pin in _pins()
        if (found := _installed(name)) is None or found.partition("+")[0] != pin  # +cpu: a build of the same version
        for text in [f"{name} {found or 'absent'}, locked {pin}"]
    ]
    if other:
        shown = "; ".join(other[:5]) + (f"; and {len(other) - 5} more" if len(other) > 5 else "")
        yield warning("packages", shown, "the versions of requirements.lock", "Run `make setup`.")
    if not wrong and not other:
        yield fine("packages", f"{len(declared)} declared packages are installed as they should be")


def _fault_of(need: Requirement) -> str | None:
    if need.marker is not None and not need.marker.evaluate({"extra": ""}):
        return None
    found = _installed(need.name)
    if found is None:
        return f"{need.name} is not installed"
    return None if need.specifier.contains(found, prereleases=True) else f"{need.name} {found} is not {need.specifier}"


def _pins() -> list[tuple[str, str]]:
    if not LOCK.is_file():
        return []
    lines = (PINNED.match(line) for line in LOCK.read_text(encoding="utf-8").splitlines())
    return [(match["name"], match["version"]) for match in lines if match]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_folder(settings: Settings) -> Iterator[Finding]:
    """The home folder: there, writable, with room."""
    home = settings.place("")
    if not home.is_dir():
        yield warning("home", f"{home} does not exist", "a home folder", "`interest run` or `interest load` makes it.")
        return
    try:
        with tempfile.TemporaryFile(dir=home):
            yield fine("home", f"{home} can be written")
    except OSError as trouble:
        remedy = "Give this user the right to write, or choose another with --home."
        yield error("home", f"{home} cannot be written: {trouble.strerror}", "a folder that can be written", remedy)
    free = shutil.disk_usage(home).free
    if free < LITTLE_SPACE:
        level = error if free < NO_SPACE else warning
        yield level("disk", f"{free / 2**30:.1f} GB free", "5 GB or more", "Make room, or move the home with --home.")
    else:
        yield fine("disk", f"{free / 2**30:,.0f} GB free")
