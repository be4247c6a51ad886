"""The secrets of an embedded Airflow: made once, kept in the home folder, readable by its owner alone."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.settings import Settings
from pipeline.stores.private_files import write_private

ADMIN = "admin"


class Secrets(BaseModel):
    """What signs tokens, encrypts connections and opens the door."""

    model_config = ConfigDict(frozen=True)

    jwt_secret: str
    api_secret_key: str
    fernet_key: str
    admin_password: str


def secrets_of(settings: Settings) -> Secrets:
    """The secrets of this home folder, made on the first call. `settings.secret` replaces the one that signs tokens."""
    file = settings.place("airflow/secrets.json")
    if not file.is_file():
        made = Secrets(
            jwt_secret=secrets.token_urlsafe(48),
            api_secret_key=secrets.token_urlsafe(48),
            fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            admin_password=secrets.token_urlsafe(12),
        )
        write_private(file, made.model_dump_json())
    kept = Secrets.model_validate_json(file.read_text())
    given = settings.secret.get_secret_value()
    return kept.model_copy(update={"jwt_secret": given}) if given else kept


def password_file(settings: Settings, kept: Secrets) -> Path:
    """The file from which Airflow's own user manager reads the password of `ADMIN`."""
    file = settings.place("airflow/passwords.json")
    write_private(file, json.dumps({ADMIN: kept.admin_password}))
    return file
