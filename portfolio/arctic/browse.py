"""Look into any symbol of ArcticDB: a page of rows, sorted and filtered, as plain values.

Owns: which names may be read, filters, sorting, values for JSON. Leaves: who may look (routes and pages).
Rules: a name is looked up in ArcticDB's own lists before it is opened, because opening a library makes a folder of its
name; nothing is made by looking. Without filter and sorting only the rows asked for are read; with them the whole range
is, up to a bound, so that a question cannot eat the process's memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from portfolio.arctic.client import ArcticClient
from strategies.exceptions import ConfigError, NotFoundError

MOST_ROWS = 10_000
MOST_SEARCHED = 3_000_000
MOST_FILTERS = 8
INDEX = "index"


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition: ``op`` is a key of ``OPERATIONS``."""

    column: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class RowsPage:
    """Rows of a symbol. ``total`` counts what the filters leave; values are numbers, bool, text or None."""

    columns: list[str]
    rows: list[list[Any]]
    total: int
    offset: int
    version: int | None


Test = Callable[["pd.Series[Any]", Any], "pd.Series[bool]"]
OPERATIONS: Mapping[str, Test] = {
    "eq": lambda column, value: column == value,
    "ne": lambda column, value: column != value,
    "lt": lambda column, value: column < value,
    "lte": lambda column, value: column <= value,
    "gt": lambda column, value: column > value,
    "gte": lambda column, value: column >= value,
    "contains": lambda column, value: _text(column).str.contains(str(value), case=False, regex=False),
    "startswith": lambda column, value: _text(column).str.lower().str.startswith(str(value).lower()),
    "endswith": lambda column, value: _text(column).str.lower().str.endswith(str(value).lower()),
}
_TEXT_OPERATIONS = frozenset({"contains", "startswith", "endswith"})


def require(client: ArcticClient, library: str, symbol: str = "") -> None:
    """Let names pass that ArcticDB itself lists.

    Raises: NotFoundError (unknown_library, unknown_symbol).
    """
    if library not in client.list_libraries():
        raise NotFoundError(f"ArcticDB has no library «{library[:80]}».", code="unknown_library")
    if symbol and symbol not in client.list_symbols(library):
        raise NotFoundError(f"ArcticDB's library {library} has no symbol «{symbol[:80]}».", code="unknown_symbol")


def parse_filter(text: str) -> Filter:
    """Read ``column:op:value``; the value may hold colons.

    Raises: ConfigError (bad_filter).
    """
    column, _, rest = text.partition(":")
    op, colon, value = rest.partition(":")
    if not column or not colon or op not in OPERATIONS:
        raise ConfigError(
            f"«{text[:80]}» is no filter; write column:op:value with op one of {', '.join(OPERATIONS)}.",
            code="bad_filter",
        )
    return Filter(column, op, value)


def read_rows(
    client: ArcticClient,
    library: str,
    symbol: str,
    *,
    limit: int = 100,
    offset: int = 0,
    sort: str = "",
    filters: Sequence[Filter] = (),
    start: datetime | None = None,
    end: datetime | None = None,
) -> RowsPage:
    """Return rows from ``offset`` on; ``sort`` is a column, with a minus in front downwards, ``-index`` newest first.

    ``start`` and ``end`` bound the index where it is of times.
    Raises: NotFoundError; ConfigError for a column that is not there, or more rows than may be searched.
    """
    require(client, library, symbol)
    limit, offset = max(1, min(limit, MOST_ROWS)), max(0, offset)
    total = client.row_count(library, symbol)
    is_plain = not filters and start is None and end is None
    if is_plain and sort in ("", INDEX, f"-{INDEX}"):
        return _straight(client, library, symbol, limit, offset, total, is_backwards=sort.startswith("-"))
    if total > MOST_SEARCHED and start is None and end is None:
        raise ConfigError(
            f"{library}/{symbol} has {total:,} rows, of which {MOST_SEARCHED:,} can be searched at once; name a start "
            "and an end.",
            code="too_many_rows",
        )
    options = {} if start is None and end is None else {"date_range": (start, end)}
    found = client.read(library, symbol, **options)
    data = _framed(found.data)
    if len(filters) > MOST_FILTERS:
        raise ConfigError(f"At most {MOST_FILTERS} filters.", code="bad_filter")
    for one in filters:
        data = data[_kept(data, one)]
    if sort:
        column = _column(data, sort.removeprefix("-"))
        data = data.sort_values(column, ascending=not sort.startswith("-"), kind="stable")
    part = data.iloc[offset : offset + limit]
    return RowsPage(list(data.columns), _plain(part), len(data), offset, int(found.version))


def _straight(
    client: ArcticClient, library: str, symbol: str, limit: int, offset: int, total: int, *, is_backwards: bool
) -> RowsPage:
    begin = max(0, total - offset - limit) if is_backwards else min(offset, total)
    stop = max(0, total - offset) if is_backwards else min(offset + limit, total)
    found = client.read(library, symbol, row_range=(begin, stop))
    data = _framed(found.data)
    if is_backwards:
        data = data.iloc[::-1]
    return RowsPage(list(data.columns), _plain(data), total, offset, int(found.version))


def _framed(data: Any) -> pd.DataFrame:
    """Return the data as a plain table whose first column is the index, where it says anything."""
    if not isinstance(data, pd.DataFrame):
        raise ConfigError("This symbol holds no table.", code="no_table")
    if isinstance(data.index, pd.RangeIndex):
        return data
    return data.reset_index(names=data.index.name or INDEX)


def _column(data: pd.DataFrame, name: str) -> str:
    if name == INDEX and name not in data.columns and len(data.columns):
        return str(data.columns[0])
    if name not in data.columns:
        raise ConfigError(f"There is no column «{name[:80]}»; there are {', '.join(data.columns)}.", code="bad_column")
    return name


def _kept(data: pd.DataFrame, one: Filter) -> pd.Series[bool]:
    column = data[_column(data, one.column)]
    try:
        value: Any = one.value if one.op in _TEXT_OPERATIONS else _value(column, one.value)
        return OPERATIONS[one.op](column, value).fillna(False).astype(bool)
    except (TypeError, ValueError):
        raise ConfigError(
            f"«{one.value[:80]}» cannot be compared with {one.column}, which holds {column.dtype}.", code="bad_filter"
        ) from None


def _value(column: pd.Series[Any], text: str) -> Any:
    if pd.api.types.is_bool_dtype(column):
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()] if text else False
    if pd.api.types.is_numeric_dtype(column):
        return float(text)
    if pd.api.types.is_datetime64_any_dtype(column):
        stamp = pd.Timestamp(text)
        has_zone = isinstance(column.dtype, pd.DatetimeTZDtype)
        if has_zone:
            return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
        return stamp if stamp.tzinfo is None else stamp.tz_convert("UTC").tz_localize(None)
    return text


def _text(column: pd.Series[Any]) -> pd.Series[str]:
    return column.astype(str)


def _plain(data: pd.DataFrame) -> list[list[Any]]:
    columns = [_values(data[name]) for name in data.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _values(column: pd.Series[Any]) -> list[Any]:
    if pd.api.types.is_datetime64_any_dtype(column):
        return [None if pd.isna(value) else _moment(value) for value in column]
    return [_value_out(value) for value in column.tolist()]


def _moment(value: pd.Timestamp) -> str:
    return value.isoformat().replace("+00:00", "Z")


def _value_out(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
