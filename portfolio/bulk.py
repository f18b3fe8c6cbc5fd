"""Write many rows with one prepared statement.

Owns: the SQL of the hot tables. Why: the fold must book thousands of fills a second, and the ORM spends most of a
row's time on building model instances and SQL text. Rule: values go in as the columns' Python types; adapters for the
database's own spelling are chosen once per call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.db import connection, models

from portfolio.ledger.money import QUANTUM

Adapter = Callable[[Any], Any]


def _decimal_text(value: Any) -> str | None:
    return None if value is None else format(value.quantize(QUANTUM), "f")


def _datetime_text() -> Adapter:
    """Return an adapter that spells each moment once: all rows of a batch share theirs."""
    seen: dict[Any, Any] = {}

    def adapt(value: Any) -> Any:
        if value not in seen:
            seen[value] = connection.ops.adapt_datetimefield_value(value)
        return seen[value]

    return adapt


def _adapter(field: models.Field[Any, Any]) -> Adapter | None:
    if isinstance(field, models.DecimalField) and connection.vendor == "sqlite":
        return _decimal_text
    if isinstance(field, models.DateTimeField) and connection.vendor == "sqlite":
        return _datetime_text()
    return None


def _fields(model: type[models.Model], names: Sequence[str]) -> list[models.Field[Any, Any]]:
    by_column = {field.attname: field for field in model._meta.concrete_fields}
    return [by_column[name] for name in names]


def _quoted(field: models.Field[Any, Any]) -> str:
    """Return the column's name for SQL; concrete fields always have one."""
    return connection.ops.quote_name(field.column or field.attname)


def _run(sql: str, adapters: list[Adapter | None], rows: Iterable[Sequence[Any]]) -> None:
    special = [(index, adapter) for index, adapter in enumerate(adapters) if adapter]
    params = []
    for row in rows:
        values = list(row)
        for index, adapter in special:
            values[index] = adapter(values[index])
        params.append(values)
    if params:
        with connection.cursor() as cursor:
            cursor.executemany(sql, params)


def insert_rows(
    model: type[models.Model],
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    lookups: dict[str, tuple[type[models.Model], str]] | None = None,
) -> None:
    """Insert rows; a column in ``lookups`` is given by another table's unique key and resolved by the database.

    Shape: ``columns`` are attribute names (``account_id``), each row has their values in that order.
    Raises: IntegrityError when a unique key exists already: callers check first, inside the same write transaction.
    """
    quote = connection.ops.quote_name
    fields = _fields(model, columns)
    marks, adapters = [], []
    for name, field in zip(columns, fields, strict=True):
        target = (lookups or {}).get(name)
        if target is None:
            marks.append("%s")
            adapters.append(_adapter(field))
        else:
            table, key = quote(target[0]._meta.db_table), quote(target[1])
            marks.append(f"(SELECT id FROM {table} WHERE {key} = %s)")  # noqa: S608 - names from _meta
            adapters.append(None)
    names = ", ".join(_quoted(field) for field in fields)
    sql = f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES ({', '.join(marks)})"  # noqa: S608 - names from _meta
    _run(sql, adapters, rows)


def update_rows(model: type[models.Model], columns: Sequence[str], key: str, rows: Iterable[Sequence[Any]]) -> None:
    """Set ``columns`` of the rows found by ``key``; each row holds the values and then the key."""
    quote = connection.ops.quote_name
    fields = _fields(model, [*columns, key])
    sets = ", ".join(f"{_quoted(field)} = %s" for field in fields[:-1])
    sql = f"UPDATE {quote(model._meta.db_table)} SET {sets} WHERE {_quoted(fields[-1])} = %s"  # noqa: S608 - names from _meta
    _run(sql, [_adapter(field) for field in fields], rows)


def upsert_rows(
    model: type[models.Model], columns: Sequence[str], unique: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Insert rows, or replace the other columns where the ``unique`` ones exist already."""
    quote = connection.ops.quote_name
    fields = _fields(model, columns)
    names = ", ".join(_quoted(field) for field in fields)
    keys = ", ".join(_quoted(field) for field in _fields(model, unique))
    sets = ", ".join(f"{_quoted(field)} = excluded.{_quoted(field)}" for field in fields if field.attname not in unique)
    marks = ", ".join(["%s"] * len(fields))
    sql = (
        f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES ({marks}) "  # noqa: S608 - names from _meta
        f"ON CONFLICT ({keys}) DO UPDATE SET {sets}"
    )
    _run(sql, [_adapter(field) for field in fields], rows)


def chunks(values: Iterable[Any], size: int = 500) -> Iterable[list[Any]]:
    """Cut values into lists that fit into one IN (…) of every database."""
    block: list[Any] = []
    for value in values:
        block.append(value)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block
