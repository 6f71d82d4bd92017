"""Queries whose columns are known: the tables are `STRICT`, so SQLite vouches for the types."""

from typing import Any

import apsw


def select(
    connection: apsw.Connection, statement: str, bindings: tuple[int | str | bytes, ...] = ()
) -> list[tuple[Any, ...]]:
    """All rows of a query, read at once so that no statement stays open."""
    return connection.execute(statement, bindings).fetchall()
