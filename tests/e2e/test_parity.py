"""The same strategies through a backtest and through the live path on a stepped gateway: the same fills, to the cent.

Live means all of it: engine, threads, executor, risk checks, broker, wire, gateway, message thread, ledger. Both worlds
load the same files and see the same bars; only who drives the clock differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strategies.bar_series import BarSeries
from strategies.loader import load_strategy_class
from strategies.services import save_strategy
from tests.e2e.engine.conftest import mats_settings, rig
from tests.e2e.engine.harness import Rig
from tests.support.stepped import (
    SteppedEngine,
    backtest_rows,
    cash_of,
    held_by,
    live_rows,
    session_minutes,
    spec_from,
    walk,
    write_bars,
)
from trading.backtest.contracts import BacktestResult, StrategyEntry
from trading.backtest.engine import run_backtest
from trading.gateway.testing import RunningGateway, running_gateway
from trading.risk_models import RiskLimit

__all__ = ["mats_settings", "rig"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

FIRST, SECOND = date(2020, 1, 2), date(2020, 1, 3)
WARM, STEPS = 30, 90  # of 120 minutes a quarter is the past; the night lies within the others
LATE = 70
CASH = Decimal(100_000)

LADDER = '''
from strategies.params import ReactiveParams
from strategies.reactive import ReactiveStrategy, Signal, SignalAction

BUY, SELL, CLOSE = SignalAction.BUY, SignalAction.SELL, SignalAction.CLOSE

class Params(ReactiveParams):
    symbols: list[str] = ["QQQ"]
    allow_short: bool = True

class LadderStrategy(ReactiveStrategy):
    """Goes through limits, stops, brackets, trails and auctions, one after the other."""
    params_model = Params

    def setup(self, context):
        self.turn = 0
        return super().setup(context)

    def get_subscriptions(self):
        return [(symbol, "1m") for symbol in self.config["symbols"]]

    def on_bars(self, symbol, interval):
        bars = self.context.get_bars(symbol, interval)
        number = (bars[-1].start_ns // 60_000_000_000) % 1_000_000
        if number % 6 == 5:
            return [Signal(symbol, CLOSE)]
        if number % 6:
            return []
        close = round(bars[-1].close, 2)
        near, far = 0.07, 0.21
        self.turn += 1
        size = 10 + self.turn
        wishes = [
            Signal(symbol, BUY, size, price=close - near, stop_loss=close - far, take_profit=close + far),
            Signal(symbol, SELL, size, price=close + near, stop_loss=close + far, take_profit=close - far),
            Signal(symbol, BUY, size, stop_loss=close - near, take_profit=close + near),
            Signal(symbol, BUY, size, order_type="STP", stop=close + near, stop_loss=close - near,
                   take_profit=close + far),
            Signal(symbol, SELL, size, order_type="STP", stop=close - near),
            Signal(symbol, SELL, size, stop_loss=close + near, take_profit=close - near),
            Signal(symbol, BUY, size, order_type="TRAIL", trail=0.1),
            Signal(symbol, SELL, size, order_type="STP LMT", stop=close - near, price=close - near - 0.02),
            Signal(symbol, BUY, size, price=close + near, stop_loss=close - near),
            Signal(symbol, BUY, size, order_type="MIT", stop=close - near),
        ]
        return [wishes[self.turn % len(wishes)]]
'''

RANKS = '''
from strategies.params import ReactiveParams
from strategies.reactive import ReactiveStrategy, Signal, SignalAction

class Params(ReactiveParams):
    symbols: list[str] = ["SPY", "QQQ", "IWM"]
    span: int = 4

class RanksStrategy(ReactiveStrategy):
    """Holds whichever of its symbols rose most over a few bars."""
    params_model = Params

    def setup(self, context):
        self.done, self.held = 0, None
        return super().setup(context)

    def get_subscriptions(self):
        return [(symbol, "1m") for symbol in self.config["symbols"]]

    def on_bars(self, symbol, interval):
        series = [self.context.get_bars(each, interval) for each in self.config["symbols"]]
        stamp = self.context.get_bars(symbol, interval)[-1].start_ns
        if stamp == self.done or any(bars[-1].start_ns != stamp for bars in series):
            return []  # decided already, or a symbol's bar is still to come
        self.done = stamp
        rises = [float(bars.close[-1] / bars.close[-1 - self.config["span"]]) for bars in series]
        best = self.config["symbols"][rises.index(max(rises))]
        if best == self.held:
            return []
        leave = [] if self.held is None else [Signal(self.held, SignalAction.CLOSE)]
        self.held = best
        return [*leave, Signal(best, SignalAction.BUY, 20)]
'''

ARRAYS = '''
import numpy as np
from strategies.params import ReactiveParams
from strategies.reactive import ArrayStrategy, SignalArrays

class Params(ReactiveParams):
    symbols: list[str] = ["IWM"]

class ArraysStrategy(ArrayStrategy):
    """The reference: 100 shares while the fast mean is above the slow one, declared as arrays."""
    params_model = Params

    def get_subscriptions(self):
        return [(self.config["symbols"][0], "1m")]

    def signals_as_arrays(self, bars):
        close = np.asarray(bars.close)
        targets = np.full(len(close), np.nan)
        if len(close) >= 30:
            sums = np.concatenate(([0.0], np.cumsum(close)))
            fast = (sums[30:] - sums[20:-10]) / 10
            slow = (sums[30:] - sums[:-30]) / 30
            targets[29:] = np.where(fast > slow + 1e-6, 100.0, 0.0)
        return SignalArrays(targets)
'''

FILES = {"ladder.py": LADDER, "ranks.py": RANKS, "arrays.py": ARRAYS}
ANY = {"min_quality": 0}  # the first session's bars begin late: to a backtest they are too few
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "CROSS": ("simple_ma_cross.py", {"symbols": ["SPY"], "interval": "1m", "fast_period": 2, "slow_period": 5, **ANY}),
    "LADDER": ("ladder.py", ANY),
    "RANKS": ("ranks.py", ANY),
    "ARRAYS": ("arrays.py", ANY),
}  # fmt: skip


@pytest.fixture(scope="module")
def bars() -> list[BarSeries]:
    """The last minutes of one session and the first of the next, in which every symbol has every minute."""
    late = session_minutes(FIRST, 390 - LATE, LATE)
    starts = np.concatenate([late, session_minutes(SECOND, 0, WARM + STEPS - LATE)])
    return [walk(symbol, starts, seed, price) for symbol, seed, price in
            (("SPY", 1, 322.0), ("QQQ", 2, 213.0), ("IWM", 3, 165.0))]  # fmt: skip


@pytest.fixture
def gateway(bars: list[BarSeries], tmp_path: Path) -> Iterator[RunningGateway]:
    """A paper gateway that stands between the bars."""
    path = write_bars(tmp_path / "bars.parquet", bars)
    with running_gateway(market=f"replay:{path}", clock="step", hours="exchange", partial_fills=False) as running:
        yield running


def played(bars: list[BarSeries]) -> BacktestResult:
    """Run all strategies through one backtest, each with books of its own."""
    entries = []
    for name, (filename, params) in ROWS.items():
        loaded = load_strategy_class(filename)
        config = {**loaded.params, **params}
        entries.append(StrategyEntry(name, "reactive", loaded.cls, config, CASH))
    stood = datetime.fromtimestamp(int(bars[0].whole()[0][WARM]) // 1_000_000_000, UTC)
    first = stood + timedelta(minutes=1)  # the end of the first bar that strategies are told of
    return run_backtest(spec_from(entries, bars, first))


def test_backtest_and_live_path_give_the_same_fills_to_the_cent(rig: Rig, bars: list[BarSeries]) -> None:
    RiskLimit.objects.filter(name="duplicate_window_s").update(value=0)  # a second here is minutes of the market
    for filename, source in FILES.items():
        (rig.folder / filename).write_text(source, encoding="utf-8")
    for name, (filename, params) in ROWS.items():
        save_strategy(
            {"symbol": name, "filename": filename, "target_weight": "0.1", "params": params, "restart_policy": "never"},
            None,
        )
    engine = rig.engine()
    live = SteppedEngine(rig, {name: rig.start(engine, name) for name in ROWS})
    for _ in range(STEPS):
        live.step()
    result = played(bars)
    for name, one in live.strategies.items():
        assert one.worker.get_metrics()["errors"] == 0
        assert not result.strategies[name].errors
        assert live_rows(name) == backtest_rows(result, name), name
        assert cash_of(name) == result.strategies[name].cash
        assert held_by(name) == {one.symbol: one.quantity for one in result.strategies[name].positions}
    counts = {name: len(live_rows(name)) for name in ROWS}
    print(counts)
    assert min(counts.values()) >= 5, counts
