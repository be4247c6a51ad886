"""
The files of a saved model: which kinds may be there, and proof that none of them has changed.

Weights are safetensors and facts are JSON or Parquet, so that reading a model never executes anything. A manifest lists
every file with its SHA-256; the digest of the manifest itself is kept elsewhere (a tag in the registry), so that a file
and the manifest cannot be exchanged together.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pipeline.errors import UnsafeModel

MANIFEST = "manifest.json"
ALLOWED_SUFFIXES = frozenset({".safetensors", ".json", ".parquet", ".md"})


def write_manifest(folder: Path) -> str:
    """List every file of `folder` with its checksum, and return the manifest's own SHA-256.

    Raises:
        UnsafeModel: a file of a kind that is not allowed, a link, or no file at all.
    """
    manifest = folder / MANIFEST
    manifest.unlink(missing_ok=True)
    digests = {name: _sha256(folder / name) for name in _checked_names(folder)}
    if not digests:
        raise UnsafeModel(f"{folder} holds no file, so there is no model to register. Train it again.")
    manifest.write_text(json.dumps(digests, indent=1, sort_keys=True), encoding="utf-8")
    return _sha256(manifest)


def check_files(folder: Path, manifest_digest: str | None = None) -> None:
    """Raise UnsafeModel unless `folder` holds exactly the files of its manifest, unchanged, of allowed kinds.

    Args:
        folder: the saved model.
        manifest_digest: what `write_manifest` returned. None checks the files against the manifest only.
    """
    remedy = "It was not loaded. Roll back to another version or train this one again."
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise UnsafeModel(f"{folder} has no {MANIFEST}, so its files cannot be checked. {remedy}")
    if manifest_digest is not None and _sha256(manifest) != manifest_digest:
        raise UnsafeModel(f"{manifest} is not the manifest that was registered. {remedy}")
    try:
        expected = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnsafeModel(f"{manifest} is not readable: {error}. {remedy}") from error
    found = [name for name in _checked_names(folder) if name != MANIFEST]
    if differing := sorted(set(found) ^ set(expected)):
        raise UnsafeModel(f"{folder} and its manifest disagree about {', '.join(differing[:3])}. {remedy}")
    for name in found:
        if _sha256(folder / name) != expected[name]:
            raise UnsafeModel(f"{folder / name} has changed since it was registered. {remedy}")


def _checked_names(folder: Path) -> list[str]:
    """The relative names of all files, sorted; raises UnsafeModel at the first that may not be there."""
    names = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise UnsafeModel(f"{path} is a link, and a model consists of its own files only. Nothing was loaded.")
        if path.is_dir():
            continue
        if path.suffix not in ALLOWED_SUFFIXES:
            raise UnsafeModel(
                f"{path} is not a file that a model may hold ({', '.join(sorted(ALLOWED_SUFFIXES))}); a pickle, for "
                "example, runs code when it is read. Nothing was loaded. Save weights as safetensors."
            )
        names.append(path.relative_to(folder).as_posix())
    return names


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
