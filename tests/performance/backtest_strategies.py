"""Strategies that backtests are measured with: a crossing of two averages in three ways, and one that trades always."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from strategies.bar_series import BarSeries
from strategies.reactive import ReactiveStrategy, Signal, SignalAction, StrategyContext
from trading.backtest.contracts import BacktestSpec, Models, StrategyEntry

FAST, SLOW, SHARES = 10, 30, 100
NEAR = 1e-6
CASH = Decimal(10_000_000)
LONG_AGO, FAR_OFF = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


class Cross(ReactiveStrategy):
    """SMA 10 over SMA 30, long only, kept bar by bar."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        super().__init__(name, config)
        self.seen = 0
        self.fast = self.slow = self.before = 0.0
        self.window = [0.0] * SLOW
        self.is_long = False

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return [(self.config["symbol"], "1m")]

    def setup(self, context: StrategyContext) -> bool:
        self.bars = context.get_bars(self.config["symbol"], "1m")
        return super().setup(context)

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
        close, seen, window = self.bars.last_close, self.seen, self.window
        self.seen = seen + 1
        place = seen % SLOW
        self.fast += close - window[(seen - FAST) % SLOW]
        self.slow += close - window[place]
        window[place] = close
        if seen < SLOW:
            return None
        above, before = self.fast / FAST - self.slow / SLOW, self.before
        self.before = above
        if above > NEAR and before <= NEAR and not self.is_long:
            self.is_long = True
            return [Signal(symbol, SignalAction.BUY, SHARES)]
        if above < -NEAR and self.is_long:
            self.is_long = False
            return [Signal(symbol, SignalAction.SELL, SHARES)]
        return None


class CrossByIndicators(Cross):
    """The same rule, reading the session's indicators."""

    def setup(self, context: StrategyContext) -> bool:
        symbol = self.config["symbol"]
        self.short = context.get_indicator(symbol, "1m", "sma", FAST)
        self.long = context.get_indicator(symbol, "1m", "sma", SLOW)
        return super().setup(context)

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
        slow, fast = self.long.value, self.short.value
        if slow is None or fast is None:
            return None
        above, before = fast - slow, self.before
        self.before = above
        if above > NEAR and before <= NEAR and not self.is_long:
            self.is_long = True
            return [Signal(symbol, SignalAction.BUY, SHARES)]
        if above < -NEAR and self.is_long:
            self.is_long = False
            return [Signal(symbol, SignalAction.SELL, SHARES)]
        return None


class Flip(ReactiveStrategy):
    """Buys and sells in turn at every bar, or never: the difference is what fills cost."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        super().__init__(name, config)
        self.is_long = False

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return [(self.config["symbol"], "1m")]

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
        if not self.config["trades"]:
            return None
        self.is_long = not self.is_long
        return [Signal(symbol, SignalAction.BUY if self.is_long else SignalAction.SELL, SHARES)]


def spec_of(
    make: type[ReactiveStrategy], bars: Sequence[BarSeries], models: Models | None = None, **config: Any
) -> BacktestSpec:
    """Return a run of one strategy on each series."""
    return BacktestSpec(
        strategies=[
            StrategyEntry(f"S{each.symbol}", "reactive", make, {"symbol": each.symbol, **config}, CASH) for each in bars
        ],
        bars={(each.symbol, each.interval): each for each in bars},
        start=LONG_AGO,
        end=FAR_OFF,
        models=models or Models(),
    )
