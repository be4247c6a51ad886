"""Many rows of a SQL table in one statement, new ones and those that replace others."""

from __future__ import annotations

from sqlalchemy import Engine, Insert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import DeclarativeBase


def upsert(row: type[DeclarativeBase], engine: Engine) -> Insert:
    """Inserts rows; one whose key is there already is replaced. The rows of one call have different keys."""
    insert = postgresql_insert if engine.dialect.name == "postgresql" else sqlite_insert
    line = insert(row)
    keys = [column.name for column in row.__table__.primary_key]
    told = {column.name: line.excluded[column.name] for column in row.__table__.columns if column.name not in keys}
    return line.on_conflict_do_update(index_elements=keys, set_=told)
