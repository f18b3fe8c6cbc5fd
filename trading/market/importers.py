"""Read bars from files and frames of others: CSV and Parquet with our columns, and what Yahoo's clients write.

Owns: which column is what, one frame by symbol, splits and dividends beside the bars. Leaves: stamps and zones
(``importers_stamps``), refusing bars that cannot be (``importers_check``), storing (``ingest_store``).
Rules: nothing is guessed that changes a number: a naive time needs its zone, prices with dividends in them are
refused, rows are neither sorted nor dropped. What is refused names file, row and reason; rows count from 1 below the
heading. Only of frames of several tickers the days are left out on which one of them has no value at all.
Shape: bars are indexed ``ts`` (start, UTC nanoseconds); float64 open, high, low, close, volume, as they were traded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pandas as pd

from strategies.exceptions import ConfigError
from strategies.timeframes import DAY, Timeframe, parse_timeframe
from trading.market.adjustments import action_frame, empty_actions, rebase
from trading.market.adjustments_derive import derive_actions, has_splits_applied
from trading.market.frames import first_of
from trading.market.importers_check import check_bars, check_step, infer_timeframe
from trading.market.importers_stamps import read_stamps

COLUMNS = ["open", "high", "low", "close", "volume"]
TICKER = re.compile(r"[A-Z0-9][A-Z0-9.^=& -]{0,31}", re.ASCII)
RAW, SPLIT_ADJUSTED = "raw", "split-adjusted"
PRICES = (RAW, SPLIT_ADJUSTED)
_TIMES = ("ts", "date", "datetime", "timestamp", "time", "start")
_WORDS = {
    "adj close": "adj_close", "adjclose": "adj_close", "adjusted close": "adj_close", "stock splits": "splits",
    "split": "splits", "dividend": "dividends", "ticker": "symbol", "vol": "volume",
}  # fmt: skip
_CSV_SUFFIXES = (".csv", ".txt", ".csv.gz")


@dataclass(frozen=True, slots=True)
class ImportWish:
    """What the person who imports says of a file; empty is unknown."""

    symbol: str = ""
    timeframe: str = ""
    zone: str = ""  # of naive times
    prices: str = ""  # raw or split-adjusted
    calendar: str = "XNYS"  # exchange_calendars' name; empty: times are not compared with trading hours


@dataclass(slots=True)
class Imported:
    """One symbol's bars and actions; ``notes`` are for the person who imports."""

    symbol: str
    timeframe: Timeframe
    bars: pd.DataFrame
    actions: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def read_file(path: Path, wish: ImportWish) -> list[Imported]:
    """Read a CSV or Parquet file.

    Raises: ConfigError (bad_file, bad_bars, naive_time, …) with the row and what to do.
    """
    name = path.name.lower()
    try:
        if name.endswith(_CSV_SUFFIXES):
            table = _read_csv(path)
        elif name.endswith((".parquet", ".pq")):
            table = pd.read_parquet(path)
        else:
            raise ConfigError(f"{path.name} is neither .csv nor .parquet.", code="bad_file")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}", code="bad_file") from error
    return read_table(table, wish, default_symbol=_symbol_of(path))


def read_table(table: pd.DataFrame, wish: ImportWish, default_symbol: str = "") -> list[Imported]:
    """Read a frame: ours, or Yahoo's with one ticker or several.

    Raises: as ``read_file``.
    """
    if table.empty:
        raise ConfigError("There is no row in it.", code="bad_file")
    found = [
        _read_one(symbol, rows, wish, is_sparse=is_sparse)
        for symbol, rows, is_sparse in _by_symbol(table, wish.symbol or default_symbol)
    ]
    if not found:
        raise ConfigError("There is no row in it.", code="bad_file")
    return found


def _read_csv(path: Path) -> pd.DataFrame:
    with path.open("rb") as handle:
        zipped = handle.read(2) == b"\x1f\x8b"
    head = pd.read_csv(path, header=None, nrows=3, dtype=str, compression="gzip" if zipped else None)
    several = len(head) > 1 and str(head.iloc[1, 0]).strip().lower() in ("ticker", "tickers", "symbols")
    if not several:
        return pd.read_csv(path, float_precision="round_trip")
    # Yahoo's clients write two headings, and the index' name alone in a third line.
    table = pd.read_csv(path, header=[0, 1], index_col=0, float_precision="round_trip")
    named = table.loc[[not pd.isna(label) for label in table.index]]
    return pd.DataFrame(named)


def _symbol_of(path: Path) -> str:
    stem = path.name.split(".")[0]
    word = re.split(r"[_\s]", stem)[0].upper()
    return word if TICKER.fullmatch(word) else ""


def _by_symbol(table: pd.DataFrame, symbol: str) -> Iterator[tuple[str, pd.DataFrame, bool]]:
    if isinstance(table.columns, pd.MultiIndex):
        yield from _of_tickers(table)
        return
    plain = _plain(table)
    if "symbol" in plain.columns:
        for name, rows in plain.groupby("symbol", sort=True):
            yield _ticker(str(name)), rows.drop(columns="symbol"), False
        return
    yield _ticker(symbol), plain, False


def _of_tickers(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, bool]]:
    level = next(
        (
            number
            for number in range(table.columns.nlevels)
            if {"open", "close"} <= {str(word).lower() for word in table.columns.get_level_values(number)}
        ),
        None,
    )
    if level is None or table.columns.nlevels != 2:
        raise ConfigError("Its headings name neither prices nor tickers.", code="bad_file")
    for name in dict.fromkeys(table.columns.get_level_values(1 - level)):
        rows = pd.DataFrame(table.xs(name, axis=1, level=1 - level))
        yield _ticker(str(name)), _plain(rows), True


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with our names of columns and its rows numbered from 1."""
    if not isinstance(table.index, pd.RangeIndex):
        name = str(table.index.name or "").lower()
        table = table.rename_axis(name if name in _TIMES else "ts").reset_index()
    names = {column: str(column).strip().lower() for column in table.columns}
    table = table.rename(columns={column: _WORDS.get(word, word) for column, word in names.items()})
    double = table.columns[table.columns.duplicated()]
    if len(double):
        raise ConfigError(f"There are two columns {double[0]}.", code="bad_file")
    return table.set_axis(range(1, len(table) + 1), axis=0)


def _ticker(text: str) -> str:
    symbol = text.strip().upper()
    if not TICKER.fullmatch(symbol):
        raise ConfigError(
            f"«{text}» is no ticker; name it with --symbol, or give the file a name such as AAPL.csv.",
            code="bad_symbol",
        )
    return symbol


def _read_one(symbol: str, rows: pd.DataFrame, wish: ImportWish, *, is_sparse: bool) -> Imported:
    time_column = next((name for name in _TIMES if name in rows.columns), None)
    missing = [name for name in COLUMNS if name not in rows.columns]
    if time_column is None or missing:
        lacking = "a column Date, Datetime or ts" if time_column is None else f"the columns {', '.join(missing)}"
        raise ConfigError(f"{symbol}: {lacking} must be there.", code="bad_file")
    if is_sparse:  # of several tickers in one frame each has the days of all
        rows = rows[~rows[COLUMNS].isna().all(axis=1)]
    wanted = parse_timeframe(wish.timeframe) if wish.timeframe else None
    index = read_stamps(symbol, rows[time_column], wish.zone, wish.calendar, wanted)
    bars = _numbers(symbol, rows).set_axis(index, axis=0)
    frame = wanted or infer_timeframe(symbol, index)
    check_bars(symbol, frame, bars, rows.index.to_numpy(), wish.calendar)
    check_step(symbol, frame, index)
    found = Imported(symbol, frame, bars, empty_actions())
    _add_actions(found, rows.set_axis(index, axis=0), wish)
    return found


def _numbers(symbol: str, rows: pd.DataFrame) -> pd.DataFrame:
    found = {}
    for name in COLUMNS:
        column = pd.to_numeric(rows[name], errors="coerce")
        row = first_of(column.isna(), rows.index)
        if row is not None:
            raise ConfigError(f"{symbol}: row {row} has no number in column {name}.", code="bad_bars", row=int(row))
        found[name] = column.astype("float64")
    return pd.DataFrame(found)


# -- splits and dividends


def _add_actions(found: Imported, rows: pd.DataFrame, wish: ImportWish) -> None:
    """Take splits and dividends out of Yahoo's columns, and bring the prices back to what was traded."""
    if wish.prices and wish.prices not in PRICES:
        raise ConfigError(f"«{wish.prices}» prices are not known; say {' or '.join(PRICES)}.", code="bad_prices")
    splits, dividends = _of_column(rows, "splits"), _of_column(rows, "dividends")
    closes = found.bars["close"]
    if found.timeframe.length != DAY:
        _take(found, splits, dividends, "file")
        return
    is_applied = wish.prices == SPLIT_ADJUSTED
    if not wish.prices:
        is_applied = bool(has_splits_applied(closes, {pd.Timestamp(day, tz="UTC"): r for day, r in splits.items()}))
    if is_applied:
        _undo_splits(found, splits, dividends)
    elif not splits and not dividends and "adj_close" in rows:
        derived = derive_actions(closes, pd.to_numeric(rows["adj_close"], errors="coerce"))
        splits = {stamp.date(): ratio for stamp, ratio in derived.splits.items()}
        dividends = {stamp.date(): amount for stamp, amount in derived.dividends.items()}
        _take(found, splits, dividends, "adjusted close")
        return
    elif "adj_close" not in rows and dividends and not wish.prices:
        found.notes.append(
            "The file has dividends and no adjusted close: if it was made with automatic adjustment its prices are not "
            "those that were traded. Fetch it without adjustment, or say --prices."
        )
    _take(found, splits, dividends, "file")


def _undo_splits(found: Imported, splits: Mapping[date, float], dividends: dict[date, float]) -> None:
    """Bring prices, volumes and dividends with all splits applied back to what was traded and paid."""
    last = found.bars.index[-1].date()
    actions = action_frame(dict(splits), {}, "file")
    found.bars = rebase(found.bars, actions, found.timeframe.key, last, None)
    for day in dividends:
        for other, ratio in splits.items():
            if day < other <= last:
                dividends[day] *= ratio
    found.notes.append(f"{len(splits)} split{'s' if len(splits) != 1 else ''} taken back out of the prices.")


def _take(found: Imported, splits: Mapping[date, float], dividends: Mapping[date, float], source: str) -> None:
    if splits or dividends:
        found.actions = action_frame(dict(splits), dict(dividends), source)
        found.notes.append(f"{len(splits)} splits and {len(dividends)} dividends from the {source}.")


def _of_column(rows: pd.DataFrame, name: str) -> dict[date, float]:
    if name not in rows:
        return {}
    values = pd.to_numeric(rows[name], errors="coerce").fillna(0.0)
    return {pd.Timestamp(str(stamp)).date(): float(value) for stamp, value in values[values != 0].items()}
