"""The compiled loop against the engine: the same orders, fills, cents and curve, whatever is wanted of it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.bar_series import BarSeries
from strategies.reactive import ArrayStrategy, SignalArrays
from tests.support.backtests import D, Row, days, minutes, spec_of
from tests.support.laws import examples
from trading.backtest import compiled, compiled_result
from trading.backtest.contracts import BacktestResult, BacktestSpec, InstrumentTerms, Models, NoFees, StrategyEntry
from trading.backtest.engine import run_backtest, run_by_bars
from trading.brokers.fees import FixedStockFees

some = settings(max_examples=examples(20, 200), deadline=None)
NAN = float("nan")


class Wanted(ArrayStrategy):
    """Wants what its parameters list, bar by bar."""

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return [("X", self.config["interval"])]

    def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
        return SignalArrays(np.array(self.config["targets"][: len(bars)], dtype=np.float64))


cents = st.integers(9_000, 11_000).map(lambda n: n / 100)
MODELS = (
    Models(),
    Models(fees=NoFees()),
    Models(allow_short=False, participation=D("0.25")),
    Models(participation=None, check_cash=False),
    Models(half_spread=D("0.05"), fees=FixedStockFees(D("0.0075"), D("0.5"), D("0.005"))),
)


@st.composite
def bars_and_targets(draw: st.DrawFn) -> tuple[list[Row], list[float]]:
    rows: list[Row] = []
    for _ in range(draw(st.integers(3, 25))):
        low, a, b, high = sorted(draw(st.tuples(cents, cents, cents, cents)))
        open_, close = (a, b) if draw(st.booleans()) else (b, a)
        rows.append((open_, high, low, close, float(draw(st.sampled_from([0, 7, 60, 10_000])))))
    wishes = st.sampled_from([NAN, NAN, 0.0, 40.0, -40.0, 95.0]) | st.integers(-120, 120).map(float)
    return rows, draw(st.lists(wishes, min_size=len(rows), max_size=len(rows)))


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


def wanted(targets: Sequence[float], interval: str = "1d", **config: Any) -> StrategyEntry:
    return StrategyEntry("S", "reactive", Wanted, {"targets": list(targets), "interval": interval, **config}, D(10_000))


@some
@given(bars_and_targets(), st.sampled_from(MODELS), st.sampled_from([D(1), D(10)]))
def test_the_compiled_loop_does_what_the_engine_does(
    case: tuple[list[Row], list[float]], models: Models, multiplier: Decimal
) -> None:
    rows, targets = case
    terms = {"X": InstrumentTerms("X", multiplier=multiplier)}
    fast, engine = both(spec_of([wanted(targets)], [days("X", rows)], models, instruments=terms))
    assert not engine.strategies["S"].errors
    assert_equal(fast, engine)


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
