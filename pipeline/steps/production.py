"""
Whether a settings file is fit for production. Nothing is connected to: a file can be checked where it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from pipeline.errors import BadSetting
from pipeline.settings import Settings
from pipeline.steps.findings import Diagnosis, Finding, error, fine, warning

OBJECT_STORES = ("s3", "s3a", "gs", "az", "abfs", "abfss")
EXECUTORS = ("CeleryExecutor", "KubernetesExecutor")
HOST_AND_PORT = re.compile(r"^[A-Za-z0-9._-]+:(?P<port>\d{1,5})$")
SECRET_NAME = re.compile(r"secret|password|token|access_key|account_key|sas", re.IGNORECASE)


def check_settings_file(file: Path) -> Diagnosis:
    """Judge a settings file by itself. A file that cannot be read or does not fit is one finding, not an error."""
    try:
        settings = Settings.from_file(file)
    except BadSetting as mistake:
        return Diagnosis(
            subject=str(file),
            findings=(
                error("settings", str(mistake), "the names and types of pipeline/settings/", "Correct the file."),
            ),
        )
    findings = [fine("settings", f"{file} is valid; every name in it is known"), *_profile(settings)]
    for name, url in (
        ("stores.ledger", settings.stores.ledger),
        ("stores.feast_registry", settings.stores.feast_registry),
        ("airflow.database", settings.airflow.database),
    ):
        findings.append(_postgres(name, url))
    findings += [_registry_server(settings), _bucket("stores.lake", settings.stores.lake)]
    findings += [_bucket("stores.artifacts", settings.stores.artifacts), _commits(settings), _landing(settings)]
    findings += [_redis(settings), *_executor(settings), *_schedule(settings), *_access(settings), *_secrets(settings)]
    return Diagnosis(subject=str(file), findings=tuple(findings))


def _profile(settings: Settings) -> Iterator[Finding]:
    if settings.profile == "production":
        yield fine("profile", "production")
    else:
        yield error("profile", settings.profile, 'profile = "production"', "Set it in the file.")
    if not settings.home.is_absolute():
        yield error("home", str(settings.home), "an absolute path: workers start in any folder", "Set home.")
    if not settings.privacy.pseudonymise:
        yield warning(
            "privacy.pseudonymise", "false: ids lie open in every table", "true, from the first load on",
            "Set pseudonymise = true under [privacy]; on data that is there, run `interest pseudonyms rotate --given`.",
        )
    if not settings.log_json:
        yield warning("log_json", "false", "true, so that a collector can read the logs", "Set log_json = true.")


def _postgres(name: str, url: str) -> Finding:
    expected = "postgresql+psycopg://user@host:5432/database"
    remedy = f"Set {name} in the file; the password comes from PGPASSFILE or PGPASSWORD."
    if not url:
        return error(name, "not set, so each machine would keep a file of its own", expected, remedy)
    try:
        parsed = make_url(url)
    except ArgumentError:
        return error(name, "not a database URL", expected, remedy)
    if parsed.get_backend_name() != "postgresql":
        return error(name, f"a {parsed.get_backend_name()} database", expected, remedy)
    if not parsed.host or not parsed.database:
        return error(name, "a Postgres URL without a host or a database name", expected, remedy)
    return fine(name, parsed.render_as_string(hide_password=True))


def _registry_server(settings: Settings) -> Finding:
    url = settings.stores.mlflow
    parts = _split(url)
    if parts is not None and parts.scheme in ("http", "https") and parts.hostname:
        return fine("stores.mlflow", f"{parts.scheme}://{parts.hostname}{parts.path}")
    if url.startswith("postgresql"):
        return _postgres("stores.mlflow", url)
    return error(
        "stores.mlflow",
        "not set" if not url else "neither a server nor a Postgres database",
        "https://mlflow.example.com, an MLflow server on Postgres",
        "Set stores.mlflow in the file.",
    )


def _bucket(name: str, url: str) -> Finding:
    parts = _split(url)
    if parts is not None and parts.scheme in OBJECT_STORES and parts.netloc:
        return fine(name, url)
    found = "not set, so each machine would keep tables of its own" if not url else f"{url} is not an object store"
    return error(name, found, "s3://bucket/folder (or gs, az, abfss)", f"Set {name} in the file.")


def _commits(settings: Settings) -> Finding:
    """On S3 a commit is only safe when the store or a lock lets one writer win."""
    options = {name.lower(): value for name, value in settings.stores.storage_options.items()}
    unsafe = options.get("aws_s3_allow_unsafe_rename", "").lower() in ("true", "1")
    if unsafe or (
        settings.stores.lake.startswith("s3")
        and not options.get("aws_conditional_put", options.get("conditional_put"))
        and not options.get("aws_s3_locking_provider")
    ):
        return error(
            "stores.storage_options",
            "unsafe renames are allowed" if unsafe else "neither conditional writes nor a lock",
            'aws_conditional_put = "etag", or AWS_S3_LOCKING_PROVIDER = "dynamodb"',
            "Set one of them: without it two writers may both believe that they own a commit, and rows are lost.",
        )
    return fine("stores.storage_options", "a commit has one writer")


def _landing(settings: Settings) -> Finding:
    landing = settings.stores.landing
    if landing and "://" not in landing and Path(landing).is_absolute():
        return fine("stores.landing", landing)
    found = landing or "not set, so it lies in the home folder of each machine"
    return error("stores.landing", found, "an absolute path that every worker mounts", "Set stores.landing.")


def _redis(settings: Settings) -> Finding:
    if settings.online.type != "redis":
        return error("online.type", settings.online.type, "redis", "Set online.type and online.url.")
    match = HOST_AND_PORT.match(settings.online.url.split(",")[0])
    if match is None or not 1 <= int(match["port"]) <= 65535:
        return error(
            "online.url", "not an address", "host:port, then ,ssl=true and the like", "Set online.url in the file."
        )
    return fine("online", f"redis at {settings.online.url.split(',')[0]}")


def _schedule(settings: Settings) -> Iterator[Finding]:
    if settings.airflow.scheduled:
        yield fine("airflow.scheduled", "true")
    else:
        yield error("airflow.scheduled", "false", "true", "Set airflow.scheduled, or no day starts by itself.")


def _access(settings: Settings) -> Iterator[Finding]:
    """Features are answered to whom a signed token lets in, and the token must have been made for this platform."""
    access, remedy = settings.access, "Set it under [access] in the file."
    if access.check == "off":
        yield error("access.check", "off: whoever reaches the port reads everybody's features", "oidc", remedy)
        return
    if not access.discovery_url.startswith("https://"):
        yield error("access.discovery_url", "not https, so its keys could be anybody's", "https://...", remedy)
    open_claims = [name for name in ("audience", "issuer") if not getattr(access, name)]
    if open_claims:
        found = f"{' and '.join(open_claims)} not set: a token for another service of the provider does, too"
        yield error("access", found, "access.audience and access.issuer", remedy)
    else:
        yield fine("access", f"tokens of {access.issuer}")


def _executor(settings: Settings) -> Iterator[Finding]:
    executor, broker = settings.airflow.executor, settings.airflow.broker
    if executor.split(".")[-1] not in EXECUTORS:
        yield error("airflow.executor", executor, " or ".join(EXECUTORS), "Set airflow.executor in the file.")
        return
    yield fine("airflow.executor", executor)
    if executor.endswith("CeleryExecutor"):
        parts = _split(broker)
        if parts is None or parts.scheme not in ("redis", "rediss", "amqp", "amqps", "sqs") or not parts.hostname:
            yield error(
                "airflow.broker",
                "not set" if not broker else "not a broker's URL",
                "rediss://host:6379/1",
                "Set airflow.broker in the file, or choose KubernetesExecutor.",
            )
        else:
            yield fine("airflow.broker", f"{parts.scheme}://{parts.hostname}")


def _secrets(settings: Settings) -> Iterator[Finding]:
    """A secret in a file is in its copies, its backups and its history. None is repeated here."""
    held = []
    for name, url in (
        ("stores.ledger", settings.stores.ledger),
        ("stores.feast_registry", settings.stores.feast_registry),
        ("stores.mlflow", settings.stores.mlflow),
        ("stores.lake", settings.stores.lake),
        ("stores.artifacts", settings.stores.artifacts),
        ("airflow.database", settings.airflow.database),
        ("airflow.broker", settings.airflow.broker),
    ):
        parts = _split(url)
        if parts is not None and (parts.password or re.search(r"[?&]password=", url)):
            held.append(name)
    if re.search(r"(^|,)\s*password=", settings.online.url):
        held.append("online.url")
    if settings.secret.get_secret_value():
        held.append("secret")
    for name in ("tombstone_key", "pseudonym_keys"):
        held += [f"privacy.{name}"] if getattr(settings.privacy, name).get_secret_value() else []
    held += [
        f"stores.storage_options.{n}" for n, v in settings.stores.storage_options.items() if SECRET_NAME.search(n) and v
    ]
    if held:
        yield error(
            "secrets",
            f"a secret in {', '.join(held)}",
            "no secret in the file",
            "Take it out, give it by the environment, and change it: it has been written down.",
        )
    else:
        yield fine("secrets", "none in the file")


def _split(url: str):
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises for a port that is no number)
        return parts
    except ValueError:
        return None
