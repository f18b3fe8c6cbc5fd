"""Where price paths come from: minute bars in a Parquet file, or a seeded generator.

Owns: reading and checking bars, the generator, and the market text of the settings.
Leaves: what the bars are turned into (``market_path``).
Rule: equal source, seed and instrument give equal bars, always.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from strategies.exceptions import ConfigError
from trading.gateway.hours import Micros
from trading.gateway.instrument import Instrument
from trading.gateway.market_path import Floats

SAMPLE = Path(__file__).resolve().parents[1] / "market" / "sample" / "us_etf_1min_2019-12_2020-01.parquet"
COLUMNS = ("symbol", "ts", "open", "high", "low", "close", "volume")
DAY_MINUTES = 390
SYNTHETIC_DAYS = 60
_YEAR_MINUTES = 252 * DAY_MINUTES
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class MinuteBars:
    """Minute bars of one instrument.

    Shape: equal one-dimensional arrays, ascending; ``stamps`` are starts in epoch microseconds.
    """

    stamps: Micros
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


class BarFile:
    """The bars of one Parquet file by symbol, read once.

    Shape of the file: columns symbol, ts (aware, start of the minute), open, high, low, close, volume.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bars = dict(_split(_read(path), path))
        stamps = np.unique(np.concatenate([b.stamps for b in self._bars.values()]))
        self.stamps: Micros = stamps

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols of the file, sorted."""
        return tuple(sorted(self._bars))

    def bars(self, symbol: str) -> MinuteBars | None:
        """The file's own bars of a symbol, gaps left as they are."""
        return self._bars.get(symbol)

    def dense_bars(self, symbol: str) -> MinuteBars | None:
        """The bars with the minutes that other symbols have filled in, flat and without volume.

        Symbols of a steady clock would drift apart by their gaps otherwise.
        """
        bars = self._bars.get(symbol)
        if bars is None:
            return None
        days = np.unique(bars.stamps // 86_400_000_000)
        grid = self.stamps[np.isin(self.stamps // 86_400_000_000, days)]
        grid = grid[(grid >= bars.stamps[0]) & (grid <= bars.stamps[-1])]
        index = np.searchsorted(bars.stamps, grid, side="right") - 1
        real = bars.stamps[index] == grid
        flat = bars.close[index]
        return MinuteBars(
            stamps=grid,
            open=np.where(real, bars.open[index], flat),
            high=np.where(real, bars.high[index], flat),
            low=np.where(real, bars.low[index], flat),
            close=flat,
            volume=np.where(real, bars.volume[index], 0.0),
        )


def open_source(market: str) -> BarFile | None:
    """The bar file that a market text names, None for the generator alone.

    Raises: ConfigError when the text or the file is unusable.
    """
    if market == "synthetic":
        return None
    kind, _, source = market.partition(":")
    if kind != "replay" or not source:
        raise ConfigError(
            f"The market {market!r} is unknown: use replay:sample, replay:PATH of a Parquet file, or synthetic.",
            code="unknown_market",
        )
    return _sample() if source == "sample" else BarFile(Path(source).expanduser())


@lru_cache(maxsize=1)
def _sample() -> BarFile:
    """The shipped bars, read once: they never change while a process runs."""
    return BarFile(SAMPLE)


def synthetic_bars(instrument: Instrument, seed: int, stamps: Micros | None = None) -> MinuteBars:
    """Generated minutes around the reference price: a slowly mean-reverting walk with the instrument's volatility."""
    count = SYNTHETIC_DAYS * DAY_MINUTES if stamps is None else len(stamps)
    contract = instrument.contract
    key = zlib.crc32(f"{contract.symbol}/{contract.sec_type}/{contract.currency}".encode())
    random = np.random.default_rng([seed & 0xFFFFFFFF, key])
    sigma = instrument.volatility / np.sqrt(_YEAR_MINUTES)
    log_close = _pulled_walk(random.standard_normal(count) * sigma, pull=1 / (5 * DAY_MINUTES))
    close = float(instrument.reference_price) * np.exp(log_close)
    open_ = np.concatenate(([float(instrument.reference_price)], close[:-1]))
    reach = np.abs(random.standard_normal((2, count))) * sigma * 0.6
    high = np.maximum(open_, close) * (1 + reach[0])
    low = np.minimum(open_, close) * (1 - reach[1])
    mean = instrument.daily_volume / DAY_MINUTES
    volume = np.round(random.gamma(2.0, mean / 2, count)) if mean else np.zeros(count)
    if stamps is None:
        stamps = np.arange(count, dtype=np.int64) * 60_000_000
    return MinuteBars(stamps, open_, high, low, close, volume)


def _pulled_walk(steps: Floats, pull: float) -> Floats:
    """Sums of the steps that lose the share ``pull`` of themselves at every step, in blocks that cannot underflow."""
    out = np.empty_like(steps)
    level, keep = 0.0, 1.0 - pull
    for begin in range(0, len(steps), _BLOCK):
        block = steps[begin : begin + _BLOCK]
        fading = keep ** np.arange(1, len(block) + 1)
        out[begin : begin + _BLOCK] = fading * (level + np.cumsum(block / fading))
        level = float(out[begin + len(block) - 1])
    return out


def _read(path: Path) -> pyarrow.Table:
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ConfigError(f"The bar file {path} cannot be read: {error}", code="bar_file") from error
    missing = [c for c in COLUMNS if c not in table.column_names]
    if missing:
        raise ConfigError(
            f"The bar file {path} lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}.",
            code="bar_file",
        )
    stamp = table.schema.field("ts").type
    if not pyarrow.types.is_timestamp(stamp) or stamp.tz is None:
        raise ConfigError(f"The column ts of {path} must hold timestamps with a time zone.", code="bar_file")
    if table.num_rows == 0:
        raise ConfigError(f"The bar file {path} is empty.", code="bar_file")
    return table.select(list(COLUMNS)).sort_by([("symbol", "ascending"), ("ts", "ascending")])


def _split(table: pyarrow.Table, path: Path) -> list[tuple[str, MinuteBars]]:
    symbols = np.asarray(table["symbol"].to_pylist(), dtype=object)
    stamps = table["ts"].cast(pyarrow.timestamp("us", "UTC"), safe=False).cast(pyarrow.int64()).to_numpy()
    prices = {c: table[c].cast(pyarrow.float64()).to_numpy() for c in COLUMNS[2:]}
    _check(stamps, symbols, prices, path)
    starts = np.concatenate(([0], np.flatnonzero(symbols[1:] != symbols[:-1]) + 1, [len(symbols)]))
    return [
        (str(symbols[a]), MinuteBars(stamps[a:b], *(prices[c][a:b] for c in COLUMNS[2:])))
        for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ]


def _check(stamps: Micros, symbols: np.ndarray, prices: dict[str, Floats], path: Path) -> None:
    """Refuse what no market prints: a wrong bar would become a wrong fill."""
    values = np.column_stack([prices[c] for c in COLUMNS[2:]])
    top = np.maximum(prices["open"], prices["close"])
    bottom = np.minimum(prices["open"], prices["close"])
    problems = (
        ("an unset number", ~np.isfinite(values).all(axis=1)),
        ("a price that is not above zero", prices["low"] <= 0),
        ("a high below or a low above its open or close", (prices["high"] < top) | (prices["low"] > bottom)),
        ("a negative volume", prices["volume"] < 0),
        (
            "two bars for one minute",
            np.concatenate(([False], (stamps[1:] == stamps[:-1]) & (symbols[1:] == symbols[:-1]))),
        ),
    )
    for text, wrong in problems:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ConfigError(f"The bar file {path} has {text} in the bars of {symbols[row]}.", code="bar_file")
