"""Figures of a compiled run without its rows are those of the rows, to the last digit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from strategies.bar_series import BarSeries
from tests.support.backtests import D, days, flat, spec_of
from tests.unit.backtest.test_targets import Wanted, entry
from trading.backtest.compiled_figures import metrics_of_run
from trading.backtest.compiled_result import market_of, result_of, run_on
from trading.backtest.contracts import Models, NoFees
from trading.backtest.metrics import daily_returns, metrics_of
from trading.backtest.trials import KEPT
from trading.brokers.fees import FixedStockFees

PRICES = st.lists(st.integers(500, 30_000), min_size=3, max_size=60)
SIZES = st.integers(-7, 12)


def both(prices: Sequence[int], targets: Sequence[float], models: Models) -> tuple[Any, dict[str, Any]]:
    """Return the figures without rows, and those of the rows."""
    bars: BarSeries = days("X", [flat(price / 100) for price in prices])
    made = entry(Wanted, 100_000, targets=list(targets), allow_short=True)
    spec = spec_of([made], [bars], models)
    market = market_of(spec)
    assert market is not None
    run = run_on(market, spec, made.make(made.name, made.config))
    assert run is not None
    result = result_of(spec, run, 0.0)
    (outcome,) = result.strategies.values()
    by_day = daily_returns(run.equity_ns, run.curve, float(run.start_cash))
    return metrics_of_run(run, by_day), metrics_of(outcome, result.fills)


@given(st.data(), PRICES, st.sampled_from([FixedStockFees(), NoFees()]), st.sampled_from([D(0), D("0.02")]))
def test_figures_without_rows_are_those_of_the_rows(data: Any, prices: list[int], fees: Any, half: Any) -> None:
    sizes = data.draw(st.lists(SIZES, min_size=len(prices), max_size=len(prices)))
    quick, slow = both(prices, [float(size) for size in sizes], Models(fees=fees, half_spread=half))
    if quick is not None:
        assert {name: quick[name] for name in KEPT} == {name: slow[name] for name in KEPT}
        assert quick["reasons"] == slow["reasons"]


@given(st.data(), PRICES)
def test_long_runs_never_need_their_rows_and_turned_ones_do(data: Any, prices: list[int]) -> None:
    sizes = data.draw(st.lists(st.integers(0, 9), min_size=len(prices), max_size=len(prices)))
    assert both(prices, [float(size) for size in sizes], Models())[0] is not None
    turned = [5.0, -5.0, *([0.0] * (len(prices) - 2))]
    assert both(prices, turned, Models(fees=NoFees()))[0] is None
