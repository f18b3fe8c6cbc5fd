"""The compiled loop against the engine: the same orders, fills, cents and curve, whatever is wanted of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.bar_series import BarSeries, moment_of
from strategies.reactive import ArrayStrategy, SignalArrays
from tests.support.backtests import FAR_OFF, LONG_AGO, MINUTE_NS, D, Row, days, minutes, series, spec_of
from tests.support.laws import examples
from trading.backtest import compiled, compiled_result, compiled_sweep
from trading.backtest.compiled_market import NotCompilableError
from trading.backtest.compiled_sweep import sweep_arrays
from trading.backtest.contracts import BacktestResult, BacktestSpec, InstrumentTerms, Models, NoFees, StrategyEntry
from trading.backtest.engine import run_backtest, run_by_bars
from trading.brokers.fees import FeeSchedule, FixedStockFees
from trading.market.calendars import build_table

some = settings(max_examples=examples(20, 200), deadline=None)
NAN = float("nan")


class Wanted(ArrayStrategy):
    """Wants what its parameters list, bar by bar."""

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return [("X", self.config["interval"])]

    def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
        return SignalArrays(np.array(self.config["targets"][: len(bars)], dtype=np.float64))


SCHEDULES: Sequence[FeeSchedule] = (
    NoFees(),
    FixedStockFees(),
    FixedStockFees(D("0.0075"), D("0.5"), D("0.04")),
    FixedStockFees(D("0.0000005"), D(0), D("0.03")),  # whose half millionths are rounded to even
    FixedStockFees(D(2), D("2.5"), D(1)),
)
GRIDS = ((1, 100), (9_000, 100), (995_000, 10_000), (1_000_000, 1_000_000))
"""Lowest price and units to the currency: pennies, where a fee is all of the value it may be, to six decimals."""


@st.composite
def models(draw: st.DrawFn) -> Models:
    """Costs and bounds that the loop knows."""
    return Models(
        fees=draw(st.sampled_from(SCHEDULES)),
        participation=draw(st.sampled_from([None, D(1), D("0.5"), D("0.333"), D("0.07")])),
        half_spread=draw(st.sampled_from([D(0), D(0), D("0.01"), D("0.05")])),
        allow_short=draw(st.booleans()),
        check_cash=draw(st.booleans()),
    )


@st.composite
def prices(draw: st.DrawFn, count: int) -> list[Row]:
    """Bars of any shape on one grid, gaps between them."""
    lowest, units = draw(st.sampled_from(GRIDS))
    ticks = st.integers(lowest, lowest + max(lowest // 4, 20))
    rows: list[Row] = []
    for _ in range(count):
        low, a, b, high = (tick / units for tick in sorted(draw(st.tuples(ticks, ticks, ticks, ticks))))
        open_, close = (a, b) if draw(st.booleans()) else (b, a)
        rows.append((open_, high, low, close, float(draw(st.sampled_from([0, 1, 7, 60, 10_000])))))
    return rows


wishes = st.sampled_from([NAN, NAN, 0.0, 40.0, -40.0, 95.0]) | st.integers(-120, 120).map(float)


@st.composite
def daily_runs(draw: st.DrawFn) -> BacktestSpec:
    """Days, one or more of which may be missing, and what is wanted after each."""
    count = draw(st.integers(3, 25))
    whole = days("X", draw(prices(count)))
    kept = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    kept = [keep or place < 3 for place, keep in enumerate(kept)] if draw(st.booleans()) else [True] * count
    return draw(specs(_part(whole, np.flatnonzero(kept))))


@st.composite
def minute_runs(draw: st.DrawFn) -> BacktestSpec:
    """Minutes around the opens and closes of three days and a half holiday: some before, some after, some missing."""
    table = build_table("US_EQUITY", date(2024, 7, 1), date(2024, 7, 8))
    around = np.concatenate([
        edge + MINUTE_NS * np.arange(-3, 3) for pair in zip(table.opens, table.closes, strict=True) for edge in pair
    ])  # fmt: skip
    places = draw(st.lists(st.sampled_from(range(len(around))), min_size=3, max_size=25, unique=True))
    return draw(specs(series("X", "1m", around[sorted(places)], draw(prices(len(places))))))


@st.composite
def overlapping_runs(draw: st.DrawFn) -> BacktestSpec:
    """Five minutes from any minute on: some begin before the last one is over, and orders wait for the next but one."""
    opening = build_table("US_EQUITY", date(2024, 7, 1), date(2024, 7, 2)).opens[0]
    places = draw(st.lists(st.integers(0, 40), min_size=3, max_size=20, unique=True))
    starts = opening + MINUTE_NS * np.array(sorted(places))
    return draw(specs(series("X", "5m", starts, draw(prices(len(places))))))


def _part(bars: BarSeries, places: Any) -> BarSeries:
    starts, columns = bars.whole()
    return BarSeries.from_columns(bars.symbol, bars.interval, starts[places], [column[places] for column in columns])


@st.composite
def specs(draw: st.DrawFn, bars: BarSeries) -> BacktestSpec:
    """A run over bars, or over a part of them after a warm-up."""
    count = bars.capacity
    targets = draw(st.lists(wishes, min_size=count, max_size=count))
    start, end = LONG_AGO, FAR_OFF
    if draw(st.booleans()):
        first = draw(st.integers(0, count - 1))
        last = draw(st.integers(first, count - 1))
        day = timedelta(days=1)  # daily bars are over some hours after their stamp
        start = moment_of(int(bars.whole()[0][first]))
        end = moment_of(int(bars.whole()[0][last])) + day
    terms = InstrumentTerms(
        "X", multiplier=D(draw(st.sampled_from([1, 1, 10, 50]))), tick=draw(st.sampled_from([None, D("0.25")]))
    )
    affordable = draw(st.sampled_from([0, 30, 90, 150, 150, 500]))  # units, so that cash is short now and then
    entry = wanted(targets, bars.interval, cash=f"{affordable * bars.whole()[1][0][0] * float(terms.multiplier):.2f}")
    return spec_of([entry], [bars], draw(models()), instruments={"X": terms}, start=start, end=end)


def both(spec: BacktestSpec) -> tuple[BacktestResult, BacktestResult]:
    """The compiled result and the engine's; fails where the compiled way was not gone."""
    taken: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        real = compiled.run_targets

        def noted(*args: Any) -> Any:
            taken.append(args)
            return real(*args)

        patch.setattr(compiled_result, "run_targets", noted)
        results = run_backtest(spec), run_by_bars(spec)
    assert len(taken) == 1
    return results


def assert_equal(one: BacktestResult, other: BacktestResult) -> None:
    assert one.fills == other.fills
    assert one.orders == other.orders
    assert (one.bars, one.started, one.ended, one.warnings) == (other.bars, other.started, other.ended, other.warnings)
    for mine, its in zip(one.strategies.values(), other.strategies.values(), strict=True):
        assert np.array_equal(mine.equity_ns, its.equity_ns)
        assert np.allclose(mine.equity_curve, its.equity_curve, rtol=0, atol=1e-6)
        for name in ("cash", "equity", "realized", "fees", "positions", "errors", "signals", "bars_seen", "dividends"):
            assert getattr(mine, name) == getattr(its, name), name


def wanted(targets: Sequence[float], interval: str = "1d", cash: str = "10000", **config: Any) -> StrategyEntry:
    return StrategyEntry("S", "reactive", Wanted, {"targets": list(targets), "interval": interval, **config}, D(cash))


@some
@given(daily_runs() | minute_runs() | overlapping_runs())
def test_the_compiled_loop_does_what_the_engine_does(spec: BacktestSpec) -> None:
    fast, engine = both(spec)
    assert not engine.strategies["S"].errors
    assert_equal(fast, engine)


@some
@given(daily_runs() | minute_runs() | overlapping_runs())
def test_a_sweep_says_of_a_set_what_the_engine_says(spec: BacktestSpec) -> None:
    (quick,) = sweep_arrays(spec, [{}])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_sweep, "compile_market", _refuse)
        (slow,) = sweep_arrays(spec, [{}])
    assert not quick.error
    for name in ("equity", "fees", "fills", "denied", "exposure", "error"):
        assert getattr(quick, name) == getattr(slow, name), name
    for name in ("total_return", "max_drawdown", "mean_return", "deviation"):
        assert getattr(quick, name) == pytest.approx(getattr(slow, name), rel=1e-9, abs=1e-7), name


def _refuse(*_: object) -> None:
    raise NotCompilableError("a test")


def test_days_and_nights_of_minutes() -> None:
    """Orders of the last minute are for the next day, and those that a day does not fill end with it."""
    rng = np.random.default_rng(3)
    close = np.round(100 + np.cumsum(rng.normal(0, 0.05, 1_200)), 2)
    rows: list[Row] = [(c, c + 0.02, c - 0.02, c, float(rng.integers(0, 60))) for c in np.round(close, 2).tolist()]
    rows = [(o, round(h, 2), round(low, 2), c, v) for o, h, low, c, v in rows]  # type: ignore[misc]
    targets = rng.choice([NAN, 0.0, 90.0, -30.0, 300.0], 1_200).tolist()
    spec = spec_of([wanted(targets, "1m")], [minutes("X", rows)], Models(participation=D("0.5"), check_cash=False))
    fast, engine = both(spec)
    assert {order.state for order in engine.orders} >= {"filled", "expired", "cancelled"}
    assert len(engine.fills) > 300
    assert_equal(fast, engine)


def test_orders_outgrow_their_first_room() -> None:
    rows: list[Row] = [(100.0, 100.0, 100.0, 100.0, 1e6)] * 12_000
    targets = [float(n % 2) for n in range(12_000)]
    fast, engine = both(spec_of([wanted(targets, "1m")], [minutes("X", rows)]))
    assert len(engine.fills) == 11_998
    assert_equal(fast, engine)
