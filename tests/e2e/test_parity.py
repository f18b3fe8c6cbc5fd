"""The same strategies through a backtest and through the live path on a stepped gateway: the same fills, to the cent.

Live means all of it: engine, threads, executor, risk checks, broker, wire, gateway, message thread, ledger. Both worlds
load the same files and see the same bars; only who drives the clock differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
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
from trading.backtest.data import series_of
from trading.backtest.engine import run_backtest
from trading.gateway.market_source import SAMPLE
from trading.gateway.testing import RunningGateway, running_gateway
from trading.risk_models import RiskLimit

__all__ = ["mats_settings", "rig"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

FIRST, SECOND = date(2020, 1, 2), date(2020, 1, 3)
SAMPLE_DAY = datetime(2019, 12, 31, tzinfo=UTC)
LATE, EARLY = 70, 50  # of 120 minutes a quarter is the past; the night lies within the others
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

TURNS = '''
from strategies.params import ReactiveParams
from strategies.reactive import ReactiveStrategy, Signal, SignalAction

class Params(ReactiveParams):
    symbols: list[str] = ["IWM"]
    allow_short: bool = True

class TurnsStrategy(ReactiveStrategy):
    """Turns its position around with exits, adds a second entry, closes a part: whatever is held then."""
    params_model = Params

    def get_subscriptions(self):
        return [(symbol, "1m") for symbol in self.config["symbols"]]

    def on_bars(self, symbol, interval):
        bars = self.context.get_bars(symbol, interval)
        number = (bars[-1].start_ns // 60_000_000_000) % 1_000_000
        turn, step = divmod(number, 4)
        close, side = round(bars[-1].close, 2), 1 if turn % 2 else -1
        action = SignalAction.BUY if side > 0 else SignalAction.SELL
        if step == 0:
            return [Signal(symbol, action, 40, stop_loss=close - side * 0.25, take_profit=close + side * 0.35)]
        if step == 2:
            return [Signal(symbol, SignalAction.CLOSE, 7)]
        return []
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

FILES = {"ladder.py": LADDER, "ranks.py": RANKS, "turns.py": TURNS, "arrays.py": ARRAYS}
ANY = {"min_quality": 0}  # the first session's bars begin late: to a backtest they are too few
Rows = Mapping[str, tuple[str, Mapping[str, Any]]]  # name: file and parameters
ROWS: Rows = {
    "CROSS": ("simple_ma_cross.py", {"symbols": ["SPY"], "interval": "1m", "fast_period": 2, "slow_period": 5, **ANY}),
    "LADDER": ("ladder.py", ANY),
    "RANKS": ("ranks.py", ANY),
    "TURNS": ("turns.py", ANY),
    "ARRAYS": ("arrays.py", ANY),
}  # fmt: skip


SHIPPED: Rows = {
    "CROSS": ("simple_ma_cross.py", {"symbols": ["SPY", "XBI"], "interval": "5m", "fast_period": 2, "slow_period": 5,
                                     "quantity": 100, "allow_short": True, **ANY}),
    "SIZED": ("simple_ma_cross.py", {"symbols": ["XBI"], "interval": "1m", "fast_period": 5, "slow_period": 20, **ANY}),
    "RSI": ("rsi_strategy.py", {"symbols": ["SPY", "XBI"], "interval": "1m", "rsi_period": 7, "allow_short": True,
                                **ANY}),
    "VWAP": ("vwap_strategy.py", {"symbols": ["XBI", "SPY"], "interval": "5m", "vwap_deviation": 0.0005, "quantity": 50,
                                  "volume_threshold": 0, "allow_short": True, **ANY}),
}  # fmt: skip


def two_sessions() -> list[BarSeries]:
    """The last minutes of one session and the first of the next, in which every symbol has every minute."""
    starts = np.concatenate([session_minutes(FIRST, 390 - LATE, LATE), session_minutes(SECOND, 0, EARLY)])
    kinds = (("SPY", 1, 322.0), ("QQQ", 2, 213.0), ("IWM", 3, 165.0))
    return [walk(symbol, starts, seed, price) for symbol, seed, price in kinds]


def sample_day() -> list[BarSeries]:
    """A whole day of the shipped bars, with the last of the day before as the past."""
    table = pq.read_table(SAMPLE).to_pandas()
    since, until = SAMPLE_DAY - timedelta(hours=5, minutes=10), SAMPLE_DAY + timedelta(days=1)
    return [
        series_of(symbol, "1m", rows.set_index("ts").sort_index())
        for symbol, rows in table[(table.ts >= since) & (table.ts < until)].groupby("symbol")
        if symbol in ("SPY", "XBI")
    ]


@pytest.fixture
def bars(request: pytest.FixtureRequest) -> list[BarSeries]:
    """The bars of both worlds."""
    made: list[BarSeries] = request.param()
    return made


@pytest.fixture
def gateway(bars: list[BarSeries], tmp_path: Path) -> Iterator[RunningGateway]:
    """A paper gateway that stands between the bars."""
    path = write_bars(tmp_path / "bars.parquet", bars)
    with running_gateway(market=f"replay:{path}", clock="step", hours="exchange", partial_fills=False) as running:
        yield running


def played(rows: Rows, bars: list[BarSeries], first: datetime) -> BacktestResult:
    """Run all strategies through one backtest, each with books of its own."""
    entries = []
    for name, (filename, params) in rows.items():
        loaded = load_strategy_class(filename)
        entries.append(StrategyEntry(name, "reactive", loaded.cls, {**loaded.params, **params}, CASH))
    return run_backtest(spec_from(entries, bars, first))


def lived(rig: Rig, rows: Rows, bars: list[BarSeries]) -> datetime:
    """Run all strategies in an engine, bar by bar to the end; return when the first bar was over."""
    RiskLimit.objects.filter(name="duplicate_window_s").update(value=0)  # a second here is minutes of the market
    for name, (filename, params) in rows.items():
        fields = {"symbol": name, "filename": filename, "params": dict(params), "restart_policy": "never"}
        save_strategy({**fields, "target_weight": "0.1"}, None)
    engine = rig.engine()
    live = SteppedEngine(rig, {name: rig.start(engine, name) for name in rows})
    count = len(np.unique(np.concatenate([series.whole()[0] for series in bars])))
    ends = [live.step() for _ in range(count - count // 4)]
    for one in live.strategies.values():
        assert one.worker.get_metrics()["errors"] == 0
    return ends[0]


def compare(rows: Rows, result: BacktestResult) -> dict[str, int]:
    """Hold ledger and backtest to each other; return how many fills each strategy had."""
    for name in rows:
        outcome = result.strategies[name]
        assert not outcome.errors
        assert live_rows(name) == backtest_rows(result, name), name
        assert cash_of(name) == outcome.cash
        assert held_by(name) == {one.symbol: one.quantity for one in outcome.positions}
    return {name: len(live_rows(name)) for name in rows}


@pytest.mark.parametrize("bars", [two_sessions], indirect=True)
def test_backtest_and_live_path_give_the_same_fills_to_the_cent(rig: Rig, bars: list[BarSeries]) -> None:
    for filename, source in FILES.items():
        (rig.folder / filename).write_text(source, encoding="utf-8")
    first = lived(rig, ROWS, bars)
    counts = compare(ROWS, played(ROWS, bars, first))
    assert min(counts.values()) >= 5, counts


@pytest.mark.proof
@pytest.mark.timeout(900)
@pytest.mark.parametrize("bars", [sample_day], indirect=True)
def test_shipped_strategies_trade_a_recorded_day_alike(rig: Rig, bars: list[BarSeries]) -> None:
    first = lived(rig, SHIPPED, bars)
    counts = compare(SHIPPED, played(SHIPPED, bars, first))
    assert min(counts.values()) >= 5, counts
