"""
The keys of privacy, kept apart from the data: one signs tombstones, the others make pseudonyms.

They come from the settings (`privacy.tombstone_key`, `privacy.pseudonym_keys`, from the environment of the process), or
else lie in `<home>/secrets/privacy.json`, made when they are first needed and readable by their owner alone. Who loses
the tombstone key cannot tell any more who was erased; who loses a pseudonym key cannot find anybody.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

from pipeline.errors import BadSetting
from pipeline.settings import Settings
from pipeline.stores.private_files import create_private, write_private

KEY_BYTES = 32
LEAST_CHARACTERS = 32
"""Of a key that is given as text."""


def tombstone_key(settings: Settings) -> bytes:
    """The key that signs tombstones, made where there is none yet. Raises BadSetting for one that is too short."""
    given = settings.privacy.tombstone_key.get_secret_value()
    return _checked(given, "tombstone_key") if given else bytes.fromhex(_kept(settings)["tombstones"])


def pseudonym_keys(settings: Settings) -> tuple[bytes, ...]:
    """The keys of pseudonyms, the first one first; each rotation adds one. Raises BadSetting."""
    given = settings.privacy.pseudonym_keys.get_secret_value()
    if given:
        return tuple(_checked(part.strip(), "pseudonym_keys") for part in given.split(","))
    return tuple(bytes.fromhex(key) for key in _kept(settings)["pseudonyms"])


def add_pseudonym_key(settings: Settings) -> None:
    """Add a new last key to the file. Raises BadSetting where the keys come from the settings."""
    if settings.privacy.pseudonym_keys.get_secret_value():
        raise BadSetting(
            "The pseudonym keys are given by the setting `privacy.pseudonym_keys`: add the new one there, behind a "
            "comma, on all machines, and run this again with --given."
        )
    kept = _kept(settings)
    kept["pseudonyms"].append(secrets.token_hex(KEY_BYTES))
    write_private(key_file(settings), json.dumps(kept))


def key_file(settings: Settings) -> Path:
    return settings.place("secrets/privacy.json")


def key_id(key: bytes) -> str:
    """Names a key without telling it: two tombstones compare only when they were signed with the same one."""
    return hashlib.sha256(b"key id:" + key).hexdigest()[:12]


def _kept(settings: Settings) -> dict:
    file = key_file(settings)
    if settings.profile == "production":
        raise BadSetting(
            "In production every machine must have the same keys: set INTEREST_PRIVACY__TOMBSTONE_KEY and, with "
            "pseudonyms, INTEREST_PRIVACY__PSEUDONYM_KEYS. Nothing was written."
        )
    if not file.is_file():
        made = {"tombstones": secrets.token_hex(KEY_BYTES), "pseudonyms": [secrets.token_hex(KEY_BYTES)]}
        create_private(file, json.dumps(made))
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadSetting(f"The keys in {file} cannot be read: {error}. Restore the file from its backup.") from error


def _checked(key: str, name: str) -> bytes:
    if len(key) < LEAST_CHARACTERS:
        raise BadSetting(f"Setting `privacy.{name}` has {len(key)} characters, expected at least {LEAST_CHARACTERS}.")
    return key.encode()
