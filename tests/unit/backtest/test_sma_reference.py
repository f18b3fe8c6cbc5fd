"""The crossing of two averages on real daily bars, against a calculation in whole cents that knows no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pytest

from strategies.bar_series import BarSeries
from strategies.reactive import ReactiveStrategy, Signal
from tests.support.backtests import BUY, FREE, SELL, sample_days, spec_of
from trading.backtest.contracts import BacktestResult, StrategyEntry
from trading.backtest.engine import run_backtest

FAST, SLOW, SHARES, CASH = 10, 30, 100, 100_000
TABLE = {
    "GOOG": (2148, 65, 33, 100, "177256.00"),
    "AAPL": (3270, 116, 58, 0, "143398.00"),
    "IBM": (3270, 120, 60, 0, "109497.00"),
    "MSFT": (3270, 117, 59, 100, "100429.00"),
}
"""Bars, fills, purchases, open position and final equity, computed without any engine on prices in whole cents."""


class Reference(NamedTuple):
    fills: list[tuple[int, int]]  # row, shares
    cash_units: int
    held: int


def by_hand(opens: Sequence[int], closes: Sequence[int], units: int) -> Reference:
    """The rule in integers, ``units`` to the dollar: 3 · sum of ten against sum of thirty has the averages' sign."""

    def difference(row: int) -> int:
        return 3 * sum(closes[row - FAST + 1 : row + 1]) - sum(closes[row - SLOW + 1 : row + 1])

    cash, held, fills = CASH * units, 0, []
    for row in range(SLOW, len(closes) - 1):
        now, before = difference(row), difference(row - 1)
        if now > 0 and before <= 0 and not held:
            held, cash = SHARES, cash - SHARES * opens[row + 1]
            fills.append((row + 1, SHARES))
        elif now < 0 and held:
            held, cash = 0, cash + SHARES * opens[row + 1]
            fills.append((row + 1, -SHARES))
    return Reference(fills, cash, held)


class CrossStrategy(ReactiveStrategy):
    """SMA 10 over SMA 30 of the close, long only."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        super().__init__(name, config)
        self.is_long = False

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return [(self.config["symbol"], "1d")]

    def on_bars(self, symbol: str, interval: str) -> Sequence[Signal] | None:
        assert self.context is not None
        closes = self.context.get_bars(symbol, interval).close
        if len(closes) <= SLOW:
            return None
        now, before = (self._difference(closes[: len(closes) - back]) for back in (0, 1))
        if now > 0 and before <= 0 and not self.is_long:
            self.is_long = True
            return [Signal(symbol, BUY, SHARES)]
        if now < 0 and self.is_long:
            self.is_long = False
            return [Signal(symbol, SELL, SHARES)]
        return None

    @staticmethod
    def _difference(closes: Any) -> float:
        value = float(closes[-FAST:].mean() - closes[-SLOW:].mean())
        return 0.0 if abs(value) <= 1e-6 else value


def run(*series: BarSeries) -> BacktestResult:
    entries = [
        StrategyEntry(f"X{bars.symbol}", "reactive", CrossStrategy, {"symbol": bars.symbol}, Decimal(CASH))
        for bars in series
    ]
    return run_backtest(spec_of(entries, series, FREE))


@pytest.mark.parametrize("symbol", TABLE)
def test_the_table_is_met_to_the_last_fill_and_cent(symbol: str) -> None:
    bars = sample_days(symbol, cents=True)
    result = run(bars)
    outcome = result.strategies[f"X{symbol}"]
    purchases = sum(fill.quantity > 0 for fill in result.fills)
    held = int(sum((position.quantity for position in outcome.positions), Decimal(0)))
    assert (result.bars, len(result.fills), purchases, held, f"{outcome.equity:.2f}") == TABLE[symbol]


@pytest.mark.parametrize("symbol", [*TABLE, "FB"])
def test_every_fill_and_the_money_agree_with_integers_on_raw_prices(symbol: str) -> None:
    bars = sample_days(symbol)
    starts, (opens, _, _, closes, _) = bars.whole()
    units = 10_000  # raw prices have up to four decimals
    in_units = [np.rint(column * units).astype(int).tolist() for column in (opens, closes)]
    expected = by_hand(in_units[0], in_units[1], units)
    result = run(bars)
    outcome = result.strategies[f"X{symbol}"]
    rows = {int(start): row for row, start in enumerate(starts)}
    day_ns = 86_400_000_000_000
    assert [(rows[fill.time_ns // day_ns * day_ns], int(fill.quantity)) for fill in result.fills] == expected.fills
    assert outcome.cash == Decimal(expected.cash_units) / units
    assert outcome.equity == outcome.cash + expected.held * Decimal(repr(float(closes[-1])))


def test_four_strategies_on_one_clock_do_what_each_does_alone() -> None:
    together = run(*(sample_days(symbol) for symbol in TABLE))
    for symbol in TABLE:
        alone = run(sample_days(symbol))
        mine = [fill for fill in together.fills if fill.symbol == symbol]
        assert [fill[:6] for fill in mine] == [fill[:6] for fill in alone.fills]
        one, other = together.strategies[f"X{symbol}"], alone.strategies[f"X{symbol}"]
        assert (one.cash, one.equity, one.realized) == (other.cash, other.equity, other.realized)
        assert np.array_equal(one.equity_curve, other.equity_curve)
        assert np.array_equal(one.equity_ns, other.equity_ns)


def test_the_curve_is_cash_and_shares_at_every_close() -> None:
    bars = sample_days("IBM")
    result = run(bars)
    _, (_, _, _, closes, _) = bars.whole()
    outcome, cash, held, expected = result.strategies["XIBM"], Decimal(CASH), Decimal(0), []
    waiting = list(result.fills)
    for end, close in zip(outcome.equity_ns.tolist(), closes.tolist(), strict=True):
        while waiting and waiting[0].time_ns < end:
            fill = waiting.pop(0)
            cash, held = cash - fill.quantity * fill.price, held + fill.quantity
        expected.append(float(cash + held * Decimal(repr(close))))
    assert np.allclose(outcome.equity_curve, expected, rtol=0, atol=1e-8)
    assert len(outcome.equity_curve) == result.bars
