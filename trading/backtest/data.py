"""Bars of a backtest from where they lie: ArcticDB, the shipped samples, a Parquet file.

Owns: reading, adjusting on read, versions and notes of what was read. Leaves: checks (``bar_series``), derived bars
(``trading.market.derived``). Rule: a series that is not there, or empty in the period, is refused by name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pandas as pd

from portfolio.arctic.client import get_ac
from portfolio.arctic.market_data import read_bars, symbol_name
from strategies.bar_series import FIELDS, BarSeries
from strategies.exceptions import ConfigError, NotFoundError
from strategies.intervals import parse_interval
from trading.backtest.wish import MARKET_DATA, PARQUET, SAMPLE
from trading.market.adjustments import Steps, action_frame, read_adjusted
from trading.market.adjustments_derive import derive_actions

SAMPLES = {"1m": "us_etf_1min_2019-12_2020-01.parquet", "1d": "us_stocks_1day_2000_2013.parquet"}
ADJUSTED = "adj_close"
_FOLDER = Path(__file__).resolve().parents[1] / "market" / "sample"


@dataclass(slots=True)
class BarSource:
    """Reads bars of a period. ``versions`` says afterwards what was read: ArcticDB's version or the file's hash."""

    source: str
    adjust: str  # none, splits or all
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _files: dict[Path, dict[str, pd.DataFrame]] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """Tell whether it is a file of a person's own, which does not say how long its bars are."""
        return self.source.startswith(PARQUET)

    def series(self, symbol: str, interval: str, first: datetime, until: datetime) -> BarSeries:
        """Return the bars that start in [first, until], none of them visible yet.

        Raises: NotFoundError (no_bars); ConfigError for bars that no market prints or an unusable source.
        """
        frame = self._reader()(symbol, interval, first, until)
        if frame.empty:
            raise NotFoundError(
                f"{self.source} has no {interval} bars of {symbol} from {first:%Y-%m-%d} to {until:%Y-%m-%d}. "
                "«manage.py data» lists what there is; «manage.py ingest_bars» fetches more.",
                code="no_bars",
            )
        return series_of(symbol, interval, frame)

    def has(self, symbol: str, interval: str) -> bool:
        """Tell whether there is such a series; a file does not name its interval, so there the symbol decides."""
        if self.source == MARKET_DATA:
            return bool(get_ac().has_symbol(MARKET_DATA, symbol_name(symbol, parse_interval(interval).key)))
        path = self._path(interval)
        return path is not None and symbol in self._table(path)

    def _path(self, interval: str) -> Path | None:
        if self.source == SAMPLE:
            return _FOLDER / SAMPLES[interval] if interval in SAMPLES else None
        return Path(self.source.removeprefix(PARQUET)).expanduser()

    def _table(self, path: Path) -> dict[str, pd.DataFrame]:
        found = self._files.get(path)
        if found is None:
            found = self._files[path] = _read_parquet(path)
            self.versions[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return found

    def _reader(self) -> Callable[[str, str, datetime, datetime], pd.DataFrame]:
        if self.source == MARKET_DATA:
            return self._stored
        if self.source == SAMPLE or self.source.startswith(PARQUET):
            return self._from_file
        raise ConfigError(
            f"The source «{self.source}» is unknown; use market_data, sample, or parquet:PATH.", code="bad_source"
        )

    def _stored(self, symbol: str, interval: str, first: datetime, until: datetime) -> pd.DataFrame:
        client, timeframe = get_ac(), parse_interval(interval).key
        name = symbol_name(symbol, timeframe)
        if client.has_symbol(MARKET_DATA, name):
            self.versions[f"{symbol} {interval}"] = f"v{client.read(MARKET_DATA, name, row_range=(0, 0)).version}"
        if self.adjust == "none":
            return read_bars(client, symbol, timeframe, start=first, end=until)
        return read_adjusted(client, symbol, timeframe, start=first, end=until, dividends=self.adjust == "all")

    def _from_file(self, symbol: str, interval: str, first: datetime, until: datetime) -> pd.DataFrame:
        path = self._path(interval)
        if path is None:
            raise ConfigError(f"The sample has bars of {' and '.join(SAMPLES)}.", code="no_bars")
        rows = self._table(path).get(symbol)
        if rows is None:
            return pd.DataFrame(columns=list(FIELDS))
        rows = self._adjusted(rows, symbol, interval, path.name)
        stamps = rows.index
        chosen: pd.DataFrame = rows[(stamps >= first) & (stamps <= until)]
        return chosen

    def _adjusted(self, rows: pd.DataFrame, symbol: str, interval: str, name: str) -> pd.DataFrame:
        """Apply what the file's adjusted closes tell of splits and dividends."""
        if self.adjust == "none":
            return rows
        if ADJUSTED not in rows.columns:
            self.notes.append(
                f"{name} does not say what was split or paid: prices of {symbol} are as they stand there."
            )
            return rows
        found = derive_actions(rows["close"], rows[ADJUSTED])
        splits, dividends = (
            {day.date(): value for day, value in one.items()} for one in (found.splits, found.dividends)
        )
        actions = action_frame(splits, dividends, name)
        if actions.empty:
            return rows
        timeframe = parse_interval(interval).key
        steps = Steps.of(rows["close"], actions, timeframe, {}, dividends=self.adjust == "all")
        return steps.apply(rows)


def _read_parquet(path: Path) -> dict[str, pd.DataFrame]:
    """Return the bars of a file with columns symbol, ts (or date) and the prices, by symbol.

    Raises: ConfigError (bad_source).
    """
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}", code="bad_source") from error
    table = table.rename(columns={"date": "ts"})
    missing = [name for name in ("symbol", "ts", *FIELDS) if name not in table.columns]
    if missing:
        raise ConfigError(f"{path.name} lacks the columns {', '.join(missing)}.", code="bad_source")
    table["ts"] = pd.to_datetime(table["ts"], utc=True)
    columns = [*FIELDS, *([ADJUSTED] if ADJUSTED in table.columns else [])]
    return {
        str(symbol): rows.set_index("ts").sort_index()[columns].astype("float64")
        for symbol, rows in table.groupby("symbol")
    }


def series_of(symbol: str, interval: str, frame: pd.DataFrame) -> BarSeries:
    """Return a frame of bars as a series whose cursor stands at its begin.

    Raises: ConfigError (bad_bars) naming the row.
    """
    index = pd.DatetimeIndex(frame.index)
    starts = index.tz_convert("UTC").as_unit("ns").astype("int64").to_numpy()
    return BarSeries.from_columns(symbol, interval, starts, [frame[name].to_numpy(dtype="float64") for name in FIELDS])
