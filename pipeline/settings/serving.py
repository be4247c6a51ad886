"""Settings of serving: where features are served, how that is watched, who may ask."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.settings.group import Group


class Online(Group):
    """Where served features live."""

    type: Literal["sqlite", "redis"] = Field(default="sqlite", description="Which store serves look-ups.")
    url: str = Field(
        default="",
        description="Redis: `host:port[,name=value...]`, with `ssl`, `password`, `socket_timeout` (10 s) and other "
        "options of redis-py. SQLite: empty for the home folder.",
    )
    workers: int = Field(default=2, ge=1, description="Processes that answer look-ups over HTTP, each on one core.")


class Parity(Group):
    """The daily comparison of what is served with the tables."""

    sample: int = Field(default=200, ge=1, description="Entities of each view that are compared, others every day.")
    max_differing: float = Field(
        default=0.01, ge=0, le=1, description="Share of a view's sample that may differ before the comparison fails."
    )


class Lookups(Group):
    """What is kept of answered look-ups, so that they can be compared with the tables later."""

    log: bool = Field(default=False, description="Whether answered look-ups are kept in the table `lookup_log`.")
    fraction: float = Field(default=0.01, gt=0, le=1, description="Share of the look-ups that is kept, if any is.")
    flush_seconds: float = Field(
        default=10.0, gt=0, description="How long kept look-ups wait in a server's memory to be written together."
    )
    keep_days: float = Field(
        default=30.0, gt=0, description="How long kept look-ups stay; `interest maintain` deletes older ones."
    )
    push_minutes: float = Field(
        default=60.0, ge=0, description="How long a row may be on its way from its table to the online store."
    )


class Access(Group):
    """Who may ask Feast's servers, by the groups that a signed token carries. Off: whoever reaches their ports."""

    check: Literal["off", "oidc"] = Field(default="off", description="How a caller shows who it is.")
    discovery_url: str = Field(
        default="", description="The identity provider's document: https://.../.well-known/openid-configuration."
    )
    client_id: str = Field(default="", description="The name under which the provider knows this platform.")
    audience: str = Field(default="", description="The `aud` that a token must carry; empty accepts any.")
    issuer: str = Field(default="", description="The `iss` that a token must carry; empty accepts any.")
    ca_file: str = Field(default="", description="Certificates to trust for the provider, where it has its own.")
    read_online: tuple[str, ...] = Field(
        default=("interest-read-online",), min_length=1, description="Groups that may look features up online."
    )
    read_offline: tuple[str, ...] = Field(
        default=("interest-read-offline",), min_length=1, description="Groups that may make training sets."
    )
    write: tuple[str, ...] = Field(
        default=("interest-write",), min_length=1, description="Groups that may write feature values."
    )
    manage: tuple[str, ...] = Field(
        default=("interest-manage",), min_length=1, description="Groups that may change definitions."
    )

    @model_validator(mode="after")
    def _names_its_provider(self) -> Access:
        if self.check == "oidc" and not self.discovery_url:
            raise ValueError("`check` is oidc, which needs `discovery_url`")
        return self
