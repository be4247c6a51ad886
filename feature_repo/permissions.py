"""Who may do what: the groups are settings (`access`), checked by Feast's servers where `access.check` is on."""

from pipeline.stores.access import permissions_of
from pipeline.stores.declarations import declared_access

describe, read_online, read_offline, write, manage = permissions_of(declared_access())
