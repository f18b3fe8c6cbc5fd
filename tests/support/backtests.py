"""Small runs of the backtest: bars by the row, strategies by the script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from portfolio.ledger.money import plain
from strategies.bar_series import BarSeries, Nanos
from strategies.reactive import ReactiveStrategy, Signal, SignalAction
from trading.backtest.contracts import BacktestResult, BacktestSpec, Models, NoFees, StrategyEntry
from trading.backtest.engine import run_backtest
from trading.market.calendars import build_table
from trading.market.sample_data import SAMPLE_FILE

MINUTE_NS = 60_000_000_000
BUY, SELL, CLOSE, HOLD = SignalAction.BUY, SignalAction.SELL, SignalAction.CLOSE, SignalAction.HOLD
D = Decimal
Row = tuple[float, float, float, float] | tuple[float, float, float, float, float]
DAILY_SAMPLE = SAMPLE_FILE.with_name("us_stocks_1day_2000_2013.parquet")
FREE = Models(fees=NoFees())
LONG_AGO, FAR_OFF = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def flat(price: float, volume: float = 100_000) -> Row:
    """Return a bar that trades at one price."""
    return price, price, price, price, volume


def series(symbol: str, interval: str, starts: Sequence[int] | Nanos, rows: Sequence[Row]) -> BarSeries:
    """Return bars; a row without volume has plenty."""
    full = [row if len(row) == 5 else (*row, 1e6) for row in rows]
    columns = [np.array(column, dtype=np.float64) for column in zip(*full, strict=True)] if full else [np.empty(0)] * 5
    return BarSeries.from_columns(symbol, interval, np.array(starts, dtype=np.int64), columns)


@lru_cache(maxsize=8)
def _year(year: int) -> Any:
    return build_table("US_EQUITY", date(year, 1, 1), date(year + 15, 12, 31))


def _sessions(first: date) -> tuple[Any, Nanos, Nanos]:
    """Return days, opens and closes from a day on."""
    table = _year(first.year)
    place = int(np.searchsorted(table.days, np.datetime64(first)))
    return table.days[place:], table.opens[place:], table.closes[place:]


def days(symbol: str, rows: Sequence[Row], first: date = date(2024, 1, 2)) -> BarSeries:
    """Return daily bars on the trading days of New York from ``first`` on, stamped at midnight UTC."""
    starts = _sessions(first)[0][: len(rows)].astype("datetime64[ns]").astype(np.int64)
    return series(symbol, "1d", starts, rows)


def minutes(symbol: str, rows: Sequence[Row], day: date = date(2024, 1, 2), after_open: int = 0) -> BarSeries:
    """Return minute bars from ``after_open`` minutes after the New York open on, through the night to the next day."""
    _, opens, closes = _sessions(day)
    needed = len(rows) // 200 + 2
    spans = zip(opens[:needed].tolist(), closes[:needed].tolist(), strict=True)
    starts = np.concatenate([np.arange(a, b, MINUTE_NS) for a, b in spans])
    return series(symbol, "1m", starts[after_open : after_open + len(rows)], rows)


class Script(ReactiveStrategy):
    """Gives the signals of ``config["plan"]`` by the number of the bar (counted from 0) of its first pair.

    ``config["pairs"]`` are its subscriptions. ``seen`` notes every call.
    """

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        super().__init__(name, config)
        self.seen: list[tuple[str, str, datetime]] = []

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return [tuple(pair) for pair in self.config["pairs"]]

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
        assert self.context is not None
        self.seen.append((symbol, interval, self.context.get_current_time()))
        if [symbol, interval] != list(self.config["pairs"][0]):
            return None
        number = len(self.context.get_bars(symbol, interval)) - 1
        signals: Sequence[Signal] | None = self.config["plan"].get(number)
        return signals


Plan = Mapping[int, Sequence[Signal]]


def scripted(
    name: str, pairs: Sequence[tuple[str, str]], plan: Plan, *, cash: str | int = 100_000, **config: Any
) -> StrategyEntry:
    """Return a strategy that follows a script."""
    return StrategyEntry(name, "reactive", Script, {"pairs": pairs, "plan": plan, **config}, Decimal(cash))


def spec_of(
    strategies: Sequence[StrategyEntry], bars: Iterable[BarSeries], models: Models = FREE, **changes: Any
) -> BacktestSpec:
    """Return a spec over all bars."""
    laid_out = {(each.symbol, each.interval): each for each in bars}
    times = {"start": LONG_AGO, "end": FAR_OFF} | changes
    return BacktestSpec(strategies=strategies, bars=laid_out, models=models, **times)


def play(
    plan: Plan, bars: BarSeries, models: Models = FREE, *, cash: str | int = 100_000, **changes: Any
) -> BacktestResult:
    """Run one script, named S, over one series."""
    config = changes.pop("config", {})
    entry = scripted("S", [(bars.symbol, bars.interval)], plan, cash=cash, **config)
    return run_backtest(spec_of([entry], [bars], models, **changes))


def fills_of(result: BacktestResult) -> list[tuple[str, str]]:
    """Return quantity and price of each fill, as people write them."""
    return [(plain(fill.quantity), plain(fill.price)) for fill in result.fills]


def states_of(result: BacktestResult) -> list[tuple[str, str, str]]:
    """Return type, state and filled quantity of each order."""
    return [(order.order_type, order.state, plain(order.filled)) for order in result.orders]


@lru_cache(maxsize=2)
def _daily_table(path: str) -> Any:
    return pq.read_table(path).to_pandas()


def sample_days(symbol: str, *, cents: bool = False) -> BarSeries:
    """Return the shipped daily bars of a stock; ``cents`` rounds its prices to whole cents."""
    table = _daily_table(str(DAILY_SAMPLE))
    rows = table[table.symbol == symbol]
    starts = rows.date.to_numpy().astype("datetime64[ns]").astype(np.int64)
    columns = [rows[name].to_numpy(dtype=np.float64) for name in ("open", "high", "low", "close", "volume")]
    if cents:
        columns[:4] = [np.round(column, 2) for column in columns[:4]]
    return BarSeries.from_columns(symbol, "1d", starts, columns)


def making(
    on_bars: Callable[[ReactiveStrategy, str, str], Any], pairs: Sequence[tuple[str, str]]
) -> type[ReactiveStrategy]:
    """Return a strategy class with the given reaction."""

    class Made(ReactiveStrategy):
        """Made for one test."""

        def get_subscriptions(self) -> Sequence[tuple[str, str]]:
            return pairs

        def on_bars(self, symbol: str, interval: str) -> Any:
            return on_bars(self, symbol, interval)

    return Made
