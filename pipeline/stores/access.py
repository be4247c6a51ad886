"""
Who may ask Feast's servers: groups of the settings as Feast permissions, and the provider that signs for a caller.

A caller sends a token (`Authorization: Bearer ...`) whose claim `groups` names its groups. Feast's servers check the
signature and ask the permissions of the registry. Inside one process nothing is checked: who holds the credentials of
the stores has the stores.
"""

from __future__ import annotations

from typing import Any

from pipeline.stores import quick_feast  # noqa: F401  isort: skip

from feast import FeatureService, FeatureView
from feast.permissions.action import CRUD, AuthzedAction
from feast.permissions.permission import Permission
from feast.permissions.policy import GroupBasedPolicy

from pipeline.settings import Access, Settings


def permissions_of(access: Access) -> list[Permission]:
    """One permission for each duty, and one that lets all of these groups see what there is."""
    everybody = sorted({*access.read_online, *access.read_offline, *access.write, *access.manage})
    readable = [FeatureService, FeatureView]
    return [
        Permission(
            name="describe",
            actions=[AuthzedAction.DESCRIBE],
            policy=GroupBasedPolicy(everybody),
            tags={"grants": "see every definition, no value"},
        ),
        Permission(
            name="read_online",
            types=readable,
            actions=[AuthzedAction.DESCRIBE, AuthzedAction.READ_ONLINE],
            policy=GroupBasedPolicy(list(access.read_online)),
            tags={"grants": "look features up online"},
        ),
        Permission(
            name="read_offline",
            types=readable,
            actions=[AuthzedAction.DESCRIBE, AuthzedAction.READ_OFFLINE],
            policy=GroupBasedPolicy(list(access.read_offline)),
            tags={"grants": "join features into training sets"},
        ),
        Permission(
            name="write",
            types=[FeatureView],
            actions=[AuthzedAction.DESCRIBE, AuthzedAction.WRITE_ONLINE, AuthzedAction.WRITE_OFFLINE],
            policy=GroupBasedPolicy(list(access.write)),
            tags={"grants": "write feature values, through the fence"},
        ),
        Permission(
            name="manage",
            actions=CRUD,
            policy=GroupBasedPolicy(list(access.manage)),
            tags={"grants": "change definitions"},
        ),
    ]


def described_access(settings: Settings) -> dict[str, Any]:
    """The part of Feast's configuration that says how callers are checked. It holds no secret."""
    access = settings.access
    described = {"type": access.check, "auth_discovery_url": access.discovery_url, "ca_cert_path": access.ca_file}
    optional = {"client_id": access.client_id, "audience": access.audience, "issuer": access.issuer}
    return described | {name: value for name, value in optional.items() if value}
