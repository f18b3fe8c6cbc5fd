"""Universes in ArcticDB: tables with a column Symbol, such as ``univ/us_equities`` or ``us_equities/ALL_STOCKS``.

Owns: reading a CSV or Parquet list into the shape that ArcticDB takes, storing it as one whole table.
Leaves: what strategies make of it (``strategies.data.resolve_universe``).
Rules: each symbol once; a table is replaced whole, its versions before stay readable; every other column is kept, as
number, bool or text. What cannot be is refused with its row, counted from 1 below the heading.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from portfolio.arctic.parcels import WRITE, deliver, submit
from strategies.exceptions import ConfigError
from trading.market.handover import report_refused

SYMBOL = "Symbol"
_HEADINGS = ("symbol", "ticker", "symbols", "tickers")
_TICKER = re.compile(r"[A-Z0-9][A-Z0-9.^=& -]{0,31}", re.ASCII)
DELIVER_S = 120.0


def read_universe(path: Path) -> pd.DataFrame:
    """Return the table of a file.

    Shape: column Symbol first, then the others as float64, bool or text without gaps; a plain range as index.
    Raises: ConfigError (bad_file, bad_universe) naming the row.
    """
    try:
        if path.name.lower().endswith((".parquet", ".pq")):
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}", code="bad_file") from error
    if not isinstance(table.index, pd.RangeIndex) and table.index.name:
        table = table.reset_index()
    heading = next((name for name in table.columns if str(name).strip().lower() in _HEADINGS), None)
    if heading is None:
        raise ConfigError(f"{path.name} has no column Symbol or Ticker.", code="bad_universe")
    names = [str(value).strip().upper() for value in table[heading]]
    _check(path.name, names)
    found = {SYMBOL: pd.Series(names, dtype=object)}
    for name in table.columns:
        if name != heading:
            found[str(name).strip()] = _column(table[name].reset_index(drop=True))
    return pd.DataFrame(found)


def _check(file: str, names: list[str]) -> None:
    seen: dict[str, int] = {}
    for row, name in enumerate(names, start=1):
        if not _TICKER.fullmatch(name):
            raise ConfigError(f"{file}: row {row} has no symbol but «{name[:40]}».", code="bad_universe", row=row)
        if name in seen:
            raise ConfigError(f"{file}: row {row} has {name}, as row {seen[name]} has.", code="bad_universe", row=row)
        seen[name] = row
    if not names:
        raise ConfigError(f"{file} has no row.", code="bad_universe")


def _column(values: pd.Series[Any]) -> pd.Series[Any]:
    if pd.api.types.is_bool_dtype(values) and not values.isna().any():
        return values.astype(bool)
    if pd.api.types.is_numeric_dtype(values):
        return values.astype("float64")
    texts = values.map(lambda value: "" if value is None or value is pd.NA or value != value else str(value).strip())
    filled = texts[texts != ""]
    numbers = pd.to_numeric(filled, errors="coerce")
    if len(filled) and not numbers.isna().any():
        return numbers.reindex(texts.index).astype("float64")
    return texts.astype(object)


def store_universe(library: str, symbol: str, table: pd.DataFrame, *, source: str) -> int | None:
    """Write a universe, and wait until it is there; return its version.

    Raises: ConfigError for names that cannot be; ConflictError for the ledger's libraries; TransientError.
    """
    parcel = submit(library, symbol, table, mode=WRITE, metadata={"source": source, "kind": "universe"}, source=source)
    return deliver(parcel, DELIVER_S, report_refused)
