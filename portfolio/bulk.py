"""Write many rows with one prepared statement.

Owns: the SQL of the hot tables. Why: the fold must book thousands of fills a second, and the ORM spends most of a
row's time on building model instances and SQL text. Rule: values go in as the columns' Python types; adapters for the
database's own spelling are chosen once per set of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection, models

from portfolio.ledger.money import QUANTUM, ZERO

Adapter = Callable[[Any], Any]
M = TypeVar("M", bound=models.Model)


@lru_cache(maxsize=8192)
def _decimal_text(value: Any) -> str | None:
    """Spell a number; sizes, prices and zero come again and again, and equal ones (0 and −0) are spelled alike."""
    return None if value is None else format((value or ZERO).quantize(QUANTUM), "f")


@lru_cache(maxsize=4096)
def _datetime_text(value: Any) -> Any:
    return connection.ops.adapt_datetimefield_value(value)  # all rows of a batch share their moments


def _adapter(field: models.Field[Any, Any]) -> Adapter | None:
    if isinstance(field, models.DecimalField):
        return _decimal_text
    return _datetime_text if isinstance(field, models.DateTimeField) else None


@lru_cache(maxsize=256)
def _adapters(model: type[models.Model], columns: tuple[str, ...], vendor: str) -> tuple[tuple[int, Adapter], ...]:
    """Return by position how values are spelled for the database; only SQLite needs telling."""
    if vendor != "sqlite":
        return ()
    found = ((index, _adapter(field)) for index, field in enumerate(_fields(model, columns)))
    return tuple((index, adapter) for index, adapter in found if adapter)


def _fields(model: type[models.Model], names: Sequence[str]) -> list[models.Field[Any, Any]]:
    by_column = {field.attname: field for field in model._meta.concrete_fields}
    return [by_column[name] for name in names]


def _quoted(field: models.Field[Any, Any]) -> str:
    """Return the column's name for SQL; concrete fields always have one."""
    return connection.ops.quote_name(field.column or field.attname)


def _run(sql: str, model: type[models.Model], columns: tuple[str, ...], rows: Iterable[Sequence[Any]]) -> None:
    special = _adapters(model, columns, connection.vendor)
    params = []
    for row in rows:
        values = list(row)
        for index, adapter in special:
            values[index] = adapter(values[index])
        params.append(values)
    if params:
        with connection.cursor() as cursor:
            cursor.executemany(sql, params)


Lookup = tuple[str, type[models.Model], str]


def insert_rows(
    model: type[models.Model],
    columns: tuple[str, ...],
    rows: Iterable[Sequence[Any]],
    *,
    lookup: Lookup | None = None,
) -> None:
    """Insert rows; ``lookup`` (column, model, unique key) has the database resolve one column by another table's key.

    Shape: ``columns`` are attribute names (``account_id``), each row has their values in that order.
    Raises: IntegrityError when a unique key exists already: callers check first, inside the same write transaction.
    """
    _run(_insert_sql(model, columns, lookup), model, columns, rows)


def update_rows(model: type[models.Model], columns: tuple[str, ...], key: str, rows: Iterable[Sequence[Any]]) -> None:
    """Set ``columns`` of the rows found by ``key``; each row holds the values and then the key."""
    _run(_update_sql(model, columns, key), model, (*columns, key), rows)


def upsert_rows(
    model: type[models.Model], columns: tuple[str, ...], unique: tuple[str, ...], rows: Iterable[Sequence[Any]]
) -> None:
    """Insert rows, or replace the other columns where the ``unique`` ones exist already."""
    _run(_upsert_sql(model, columns, unique), model, columns, rows)


def select_rows(
    model: type[models.Model], columns: tuple[str, ...], key: str, values: Iterable[Any], **equal: Any
) -> Iterator[list[Any]]:
    """Read columns of the rows whose ``key`` is among the values and whose other columns equal ``equal``."""
    decoders = _decoders(model, columns)
    for block in chunks(values):
        sql = _select_sql(model, columns, key, len(block), tuple(equal))
        with connection.cursor() as cursor:
            cursor.execute(sql, [*block, *equal.values()])
            found = cursor.fetchall()
        for row in found:
            decoded = list(row)
            for index, decode in decoders:
                decoded[index] = decode(decoded[index])
            yield decoded


def count_rows(model: type[models.Model], since: tuple[str, Any], without: tuple[str, Any], **equal: Any) -> int:
    """Count rows from a moment on that equal ``equal``, but those with one value; the statement is built once."""
    sql = _count_sql(model, since[0], without[0], tuple(equal))
    since_text = _datetime_text(since[1]) if connection.vendor == "sqlite" else since[1]
    with connection.cursor() as cursor:
        cursor.execute(sql, [*equal.values(), since_text, without[1]])
        (count,) = cursor.fetchone()
    return int(count)


def read_rows(model: type[M], key: str, values: Iterable[Any]) -> list[M]:
    """Return whole instances of the rows whose ``key`` is among the values, with statements built once.

    Not for models with JSON fields: their text stays text.
    """
    names = _columns(model)
    return [model.from_db(connection.alias, names, row) for row in select_rows(model, names, key, values)]


def select_values(rows: models.QuerySet[M], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return what ``rows.values(*names)`` says, with less work for each value.

    Names may pass foreign keys (``order__owner``). Not for JSON fields: their text stays text.
    """
    sql, params = rows.values_list(*names).query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for name, decode in _named_decoders(rows.model, names):
        for row in found:
            row[name] = decode(row[name])
    return found


@lru_cache(maxsize=64)
def _named_decoders(model: type[models.Model], names: tuple[str, ...]) -> tuple[tuple[str, Adapter], ...]:
    fields = ((name, _field_at(model, name)) for name in names)
    found = ((name, _number if isinstance(field, models.DecimalField) else _decoder(field)) for name, field in fields)
    return tuple((name, decode) for name, decode in found if decode)


@lru_cache(maxsize=8192)
def _number(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)  # sizes, prices and zero come again and again


def _field_at(model: type[models.Model], path: str) -> models.Field[Any, Any]:
    """Return the field that a name with foreign keys leads to."""
    owner: Any = model
    *keys, last = path.split("__")
    for key in keys:
        owner = owner._meta.get_field(key).related_model
    field: models.Field[Any, Any] = owner._meta.get_field(last)
    return field


@lru_cache(maxsize=64)
def _columns(model: type[models.Model]) -> tuple[str, ...]:
    return tuple(field.attname for field in model._meta.concrete_fields)


def _aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


@lru_cache(maxsize=256)
def _decoders(model: type[models.Model], columns: tuple[str, ...]) -> tuple[tuple[int, Adapter], ...]:
    found = ((index, _decoder(field)) for index, field in enumerate(_fields(model, columns)))
    return tuple((index, decode) for index, decode in found if decode)


def _decoder(field: models.Field[Any, Any]) -> Adapter | None:
    if isinstance(field, models.DateTimeField):
        return _aware  # SQLite keeps UTC without saying so
    if isinstance(field, models.DecimalField):
        return lambda value: value if value is None or isinstance(value, Decimal) else Decimal(str(value))
    return bool if isinstance(field, models.BooleanField) else None


def _table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


# The texts below are made of names from the models' own _meta and of placeholders; values never enter them.


@lru_cache(maxsize=64)
def _insert_sql(model: type[models.Model], columns: tuple[str, ...], lookup: Lookup | None) -> str:
    fields = _fields(model, columns)
    marks = ["%s"] * len(fields)
    if lookup is not None:
        column, other, key = lookup
        marks[columns.index(column)] = f"(SELECT id FROM {_table(other)} WHERE {connection.ops.quote_name(key)} = %s)"  # noqa: S608 - see above
    names = ", ".join(_quoted(field) for field in fields)
    return f"INSERT INTO {_table(model)} ({names}) VALUES ({', '.join(marks)})"  # noqa: S608 - see above


@lru_cache(maxsize=64)
def _update_sql(model: type[models.Model], columns: tuple[str, ...], key: str) -> str:
    fields = _fields(model, (*columns, key))
    sets = ", ".join(f"{_quoted(field)} = %s" for field in fields[:-1])
    return f"UPDATE {_table(model)} SET {sets} WHERE {_quoted(fields[-1])} = %s"  # noqa: S608 - see above


@lru_cache(maxsize=64)
def _upsert_sql(model: type[models.Model], columns: tuple[str, ...], unique: tuple[str, ...]) -> str:
    fields = _fields(model, columns)
    names = ", ".join(_quoted(field) for field in fields)
    keys = ", ".join(_quoted(field) for field in _fields(model, unique))
    sets = ", ".join(f"{_quoted(field)} = excluded.{_quoted(field)}" for field in fields if field.attname not in unique)
    marks = ", ".join(["%s"] * len(fields))
    return (
        f"INSERT INTO {_table(model)} ({names}) VALUES ({marks}) "  # noqa: S608 - see above
        f"ON CONFLICT ({keys}) DO UPDATE SET {sets}"
    )


@lru_cache(maxsize=256)
def _select_sql(
    model: type[models.Model], columns: tuple[str, ...], key: str, count: int, equal: tuple[str, ...]
) -> str:
    fields = _fields(model, (*columns, key, *equal))
    names = ", ".join(_quoted(field) for field in fields[: len(columns)])
    by, others = fields[len(columns)], fields[len(columns) + 1 :]
    also = "".join(f" AND {_quoted(field)} = %s" for field in others)
    marks = ", ".join(["%s"] * count)
    return f"SELECT {names} FROM {_table(model)} WHERE {_quoted(by)} IN ({marks}){also}"  # noqa: S608 - see above


@lru_cache(maxsize=64)
def _count_sql(model: type[models.Model], since: str, without: str, equal: tuple[str, ...]) -> str:
    by_since, by_without, *fields = _fields(model, (since, without, *equal))
    also = "".join(f"{_quoted(field)} = %s AND " for field in fields)
    bounds = f"{_quoted(by_since)} >= %s AND {_quoted(by_without)} <> %s"
    return f"SELECT COUNT(*) FROM {_table(model)} WHERE {also}{bounds}"  # noqa: S608 - see above


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
