"""Who and what features are about."""

from feast import Entity, ValueType

user = Entity(
    name="user",
    join_keys=["user_id"],
    value_type=ValueType.STRING,
    description="One user of the log, named by the id (or pseudonym) that the log carries.",
    owner="ml-platform@example.com",
    tags={"personal": "yes"},
)

item = Entity(
    name="item",
    join_keys=["item_id"],
    value_type=ValueType.STRING,
    description="One item of the catalogue.",
    owner="ml-platform@example.com",
    tags={"personal": "no"},
)
