"""Strategies that declare their signals as arrays: what a target means, what is refused, which way is taken, sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from strategies.bar_series import BarSeries
from strategies.exceptions import ConfigError
from strategies.reactive import ArrayStrategy, SignalAction, SignalArrays, StrategyContext
from tests.support.backtests import D, days, fills_of, flat, minutes, scripted, series, spec_of
from trading.backtest.arrays import lay_out
from trading.backtest.compiled_market import NotCompilableError, compile_market
from trading.backtest.compiled_sweep import SweepRow, sweep_arrays
from trading.backtest.contracts import BacktestSpec, CorporateAction, InstrumentTerms, Models, NoFees, StrategyEntry
from trading.backtest.engine import run_backtest, run_by_bars
from trading.brokers.fees import FixedStockFees, PerContractFees
from trading.market.signal_rules import Gates

NAN = float("nan")
PAIR = [("X", "1d")]


class Wanted(ArrayStrategy):
    """Wants what its parameters list."""

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return PAIR

    def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
        return SignalArrays(np.array(self.config["targets"][: len(bars)], dtype=np.float64))


class Above(ArrayStrategy):
    """Holds ten above a price."""

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return PAIR

    def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
        return SignalArrays(np.where(bars.close > self.config["price"], 10.0, 0.0))


def entry(make: type[ArrayStrategy] = Wanted, cash: int = 10_000, **config: Any) -> StrategyEntry:
    return StrategyEntry("S", "reactive", make, config, Decimal(cash))


def wanting(targets: list[float], models: Models | None = None, prices: Sequence[float] = (), **changes: Any) -> Any:
    bars = days("X", [flat(price) for price in prices or [100] * len(targets)])
    spec = spec_of([entry(targets=targets)], [bars], models or Models(fees=NoFees()), **changes)
    compiled, by_bars = run_backtest(spec), run_by_bars(spec)
    assert (compiled.fills, compiled.orders) == (by_bars.fills, by_bars.orders)
    return compiled


def test_a_position_follows_its_target_at_the_next_open() -> None:
    result = wanting([0, 10, 10, 25, -5, NAN, 0], prices=[1, 2, 3, 4, 5, 6, 7])
    assert fills_of(result) == [("10", "3"), ("15", "5"), ("-30", "6"), ("5", "7")][:3]


def test_nan_leaves_things_as_they_are() -> None:
    assert fills_of(wanting([10, NAN, NAN, NAN])) == [("10", "100")]


def test_what_a_day_did_not_fill_is_ordered_again_the_next_day() -> None:
    models = Models(fees=NoFees(), participation=D("0.1"))
    bars = days("X", [flat(100), flat(100, volume=50), flat(100, volume=50), flat(100), flat(100)])
    result = run_backtest(spec_of([entry(targets=[10, 10, 3, 3, NAN])], [bars], models))
    assert fills_of(result) == [("5", "100"), ("5", "100"), ("-7", "100")]
    assert [order.state for order in result.orders] == ["expired", "filled", "filled"]


def test_a_target_that_changes_takes_the_working_order_back() -> None:
    class Minutes(Wanted):
        def get_subscriptions(self) -> Sequence[tuple[str, str]]:
            return [("X", "1m")]

    models = Models(fees=NoFees(), participation=D("0.1"))
    bars = minutes("X", [flat(100), flat(100, volume=50), flat(100), flat(100), flat(100)])
    result = run_backtest(spec_of([entry(Minutes, targets=[10, 3, 3, 3, NAN])], [bars], models))
    assert fills_of(result) == [("5", "100"), ("-2", "100")]
    assert [(order.state, order.reason) for order in result.orders] == [
        ("cancelled", "the target changed"), ("filled", "")
    ]  # fmt: skip


def test_a_refused_target_is_not_tried_again_until_it_changes() -> None:
    result = wanting([1000, 1000, 1000, 10, 1000, 1000])
    assert [order.state for order in result.orders] == ["denied", "filled", "denied"]
    assert result.orders[0].reason == "1000 X cost about 100000.00; 10000.00 is free."


def test_a_short_holds_its_value_back_twice_before_more_is_sold() -> None:
    """10,000 and 6,000 of proceeds less twice 6,000 leave 4,000: too little for 60 more, enough for 40."""
    result = wanting([-60, -120, -100, NAN])
    assert [(order.state, int(order.quantity)) for order in result.orders] == [
        ("filled", 60), ("denied", 60), ("filled", 40)
    ]  # fmt: skip


def test_entries_and_exits_make_targets() -> None:
    arrays = SignalArrays.of_entries([True, False, True, False], [False, True, True, False], 7)
    assert np.array_equal(arrays.targets, [7.0, 0.0, 0.0, NAN], equal_nan=True)


def test_live_the_last_target_counts() -> None:
    """Without an engine that follows targets the strategy says orders: its first target whatever it is, because what an
    earlier life left is not known to it, then the way from the last target to this one."""
    strategy = Wanted("S", {"targets": [0.0, 10.0, NAN, 10.0, -5.0]})
    bars = days("X", [flat(100)] * 5)

    class Data:
        def get_bars_ref(self, symbol: str, interval: str) -> BarSeries:
            return bars

    assert strategy.on_bars("X", "1d") is None  # before setup
    strategy.setup(StrategyContext(Data(), None, None, "live"))  # type: ignore[arg-type]
    said = []
    for bars.count in range(1, 6):
        said += [(signal.action, signal.quantity) for signal in strategy.on_bars("X", "1d") or ()]
    assert said == [(SignalAction.SELL, D(0)), (SignalAction.BUY, D(10)), (SignalAction.SELL, D(15))]


# -- what is refused


class Centred(ArrayStrategy):
    """Buys before the price rises."""

    def get_subscriptions(self) -> Sequence[tuple[str, str]]:
        return PAIR

    def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
        rises = np.append(np.diff(bars.close) > 0, False)
        return SignalArrays(np.where(rises, 10.0, 0.0))


def test_signals_that_know_the_future_are_refused_with_their_bar() -> None:
    bars = days("X", [flat(100 + n % 3) for n in range(30)])
    outcome = run_backtest(spec_of([entry(Centred)], [bars])).strategies["S"]
    assert outcome.equity == outcome.start_cash
    assert "it knows the future" in outcome.errors[0]
    assert "2024-01-24 00:00Z (row 15) is 0 without the bars from row 16 on, and 10 with them" in outcome.errors[0]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, "answered with NoneType"),
        (SignalArrays(np.zeros(3)), "answered with float64 (3,)"),
        (SignalArrays(np.zeros(5, dtype=np.int64)), "answered with int64 (5,)"),
        (SignalArrays([0.0] * 5), "answered with list"),  # type: ignore[arg-type]
        (SignalArrays(np.full(5, np.inf)), "infinite target"),
    ],
)
def test_an_answer_that_is_no_target_for_each_bar_stops_the_strategy(answer: Any, text: str) -> None:
    class Odd(Wanted):
        def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
            found: SignalArrays = answer
            return found

    result = run_backtest(spec_of([entry(Odd)], [days("X", [flat(100)] * 5)]))
    assert text in result.strategies["S"].errors[0]
    assert not result.fills


def test_code_that_fails_keeps_its_traceback() -> None:
    class Broken(Wanted):
        def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
            raise ZeroDivisionError("mine")

    assert "ZeroDivisionError: mine" in run_backtest(spec_of([entry(Broken)], [days("X", [flat(1)] * 5)])).strategies[
        "S"
    ].errors[0]  # fmt: skip


# -- which way is taken

BARS = days("X", [flat(100), flat(100.5), flat(101), flat(99)])


def spec(models: Models | None = None, bars: BarSeries = BARS, **changes: Any) -> BacktestSpec:
    return spec_of([entry(targets=[10, 0, 10, 0])], [bars], models or Models(), **changes)


class Worse:
    def worsen(self, price: Decimal, is_buy: bool) -> Decimal:
        return price


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (spec(Models(slippage=Worse())), "there is slippage"),
        (spec(Models(fees=PerContractFees(D(1)))), "another schedule"),
        (spec(actions=[CorporateAction("X", 0, ratio=D(2))]), "splits or dividends"),
        (spec(instruments={"X": InstrumentTerms("X", lot=D(5))}), "lots"),
        (spec(instruments={"X": InstrumentTerms("X", multiplier=D("0.5"))}), "multiplier"),
        (spec(bars=days("X", [flat(1 / 3)] * 4)), "more than six decimals"),
        (spec(bars=days("X", [flat(100, volume=1.5)] * 4)), "volumes have parts"),
        (spec(bars=days("X", [flat(100, volume=5e12)] * 4)), "too large"),
        (replace(spec(), strategies=[entry(targets=[10, 0, 10, 0], min_quality=50)]), "bounds"),
    ],
)
def test_what_the_loop_cannot_do_exactly_is_the_engine_s(made: BacktestSpec, reason: str) -> None:
    (track,) = lay_out(made)
    with pytest.raises(NotCompilableError, match=reason):
        compile_market(made, made.strategies[0], track)
    result, by_bars = run_backtest(made), run_by_bars(made)
    assert len(result.fills) == 3
    assert (result.fills, result.orders) == (by_bars.fills, by_bars.orders)


def test_prices_with_more_digits_than_a_float_tells_apart_are_the_engine_s() -> None:
    made = spec(bars=days("X", [flat(47_551_543_786.34001)] * 4))
    (track,) = lay_out(made)
    with pytest.raises(NotCompilableError, match="decimals"):
        compile_market(made, made.strategies[0], track)


@pytest.mark.parametrize(
    ("target", "fees"),
    [
        (1e7, FixedStockFees(maximum_share=D("0.0123"))),  # the value times a share with many digits
        (1e6, FixedStockFees(per_share=D(100), maximum_share=D("0.0001"))),  # the fee times ten thousand
    ],
)
def test_sums_beyond_the_loop_s_numbers_are_the_engine_s(target: float, fees: FixedStockFees) -> None:
    bars = days("X", [flat(100, volume=1e12)] * 4)
    made = spec_of([entry(cash=10**10, targets=[target, -target, 0, NAN])], [bars], Models(fees=fees, check_cash=False))
    assert run_backtest(made).fills == run_by_bars(made).fills
    assert [int(fill.quantity) for fill in run_backtest(made).fills] == [target, -2 * target, target]


def test_an_equity_beyond_the_loop_s_numbers_is_the_engine_s() -> None:
    """Every trade is small enough; their profits add up."""
    prices = [1.0, 1.0, 10_000.0, 10_000.0] * 60
    bars = days("X", [flat(price, volume=1e12) for price in prices])
    made = spec_of(
        [entry(cash=10**10, targets=[150_000.0, NAN, 0.0, NAN] * 60)], [bars], Models(fees=NoFees())
    )  # bought at 1, sold at 10,000
    result = run_backtest(made)
    assert result.strategies["S"].equity > D(93) * 10**9
    assert result.strategies["S"].equity == run_by_bars(made).strategies["S"].equity


def test_gates_that_are_given_count_in_the_loop_as_well() -> None:
    made = spec()
    (one,) = made.strategies
    made = replace(made, strategies=[replace(one, config={"targets": [-10, 0, 10, 0]}, gates=Gates(allow_short=False))])
    result = run_backtest(made)
    assert [order.state for order in result.orders] == [order.state for order in run_by_bars(made).orders]
    assert result.orders[0].state == "denied"


def test_parts_of_a_unit_are_the_engine_s_where_lots_allow_them() -> None:
    made = spec_of(
        [entry(targets=[0.5, 0.5, 0, NAN])],
        [BARS],
        Models(fees=NoFees()),
        instruments={"X": InstrumentTerms("X", lot=D("0.1"))},
    )
    assert fills_of(run_backtest(made)) == [("0.5", "100.5"), ("-0.5", "99")]


def test_a_strategy_with_hooks_of_its_own_has_them_called() -> None:
    called = []

    class Hooked(Wanted):
        def setup(self, context: StrategyContext) -> bool:
            called.append("setup")
            return super().setup(context)

        def teardown(self, context: StrategyContext) -> None:
            called.append("teardown")

    result = run_backtest(spec_of([entry(Hooked, targets=[10, NAN, NAN, NAN])], [BARS]))
    assert called == ["setup", "teardown"]
    assert len(result.fills) == 1


def test_several_strategies_of_arrays_share_the_clock_of_the_engine() -> None:
    entries = [
        replace(entry(targets=[10, NAN, 0, NAN]), name="A"),
        scripted("B", PAIR, {}),
        replace(entry(targets=[NAN, 5, NAN, NAN]), name="C"),
    ]
    result = run_backtest(spec_of(entries, [BARS], Models(fees=NoFees())))
    assert [(fill.strategy, int(fill.quantity)) for fill in result.fills] == [("A", 10), ("C", 5), ("A", -10)]


def test_two_pairs_are_too_many_for_arrays() -> None:
    class Two(Wanted):
        def get_subscriptions(self) -> Sequence[tuple[str, str]]:
            return [("X", "1d"), ("Y", "1d")]

    bars = [BARS, series("Y", "1d", BARS.whole()[0], [flat(1)] * 4)]
    result = run_backtest(spec_of([entry(Two, targets=[0] * 4)], bars))
    assert "subscribes to one pair" in result.strategies["S"].errors[0]


# -- sweeps


def sweep_spec(models: Models | None = None) -> BacktestSpec:
    rng = np.random.default_rng(5)
    close = np.round(100 + np.cumsum(rng.normal(0, 1, 400)), 2).tolist()
    bars = days("X", [(c, round(c + 0.5, 2), round(c - 0.5, 2), c, 1e6) for c in close])
    return spec_of([entry(Above)], [bars], models or Models())


def test_a_sweep_says_of_every_set_what_a_run_of_it_says() -> None:
    made = sweep_spec()
    configs = [{"price": float(price)} for price in range(80, 120, 5)]
    rows = sweep_arrays(made, configs)
    assert [row.config for row in rows] == configs
    for row in rows:
        result = run_by_bars(replace(made, strategies=[entry(Above, **row.config)]))
        outcome = result.strategies["S"]
        assert (row.equity, row.fees, row.fills) == (outcome.equity, outcome.fees, len(result.fills))
        highest = np.maximum.accumulate(np.append(10_000.0, outcome.equity_curve))[1:]
        assert row.max_drawdown == pytest.approx(float((1 - outcome.equity_curve / highest).max()), abs=1e-12)
        assert row.total_return == pytest.approx(float(outcome.equity) / 10_000 - 1)
    assert len({row.fills for row in rows}) > 3


def test_sets_that_the_loop_cannot_run_have_the_same_figures_from_the_engine() -> None:
    configs = [{"price": 95.0}, {"price": 105.0, "min_quality": 1}]
    quick, slow = sweep_arrays(sweep_spec(), configs), sweep_arrays(sweep_spec(Models(slippage=Worse())), configs)
    for one, other in zip(quick, slow, strict=True):
        assert (one.equity, one.fees, one.fills, one.denied) == (other.equity, other.fees, other.fills, other.denied)
        for name in ("total_return", "max_drawdown", "mean_return", "deviation", "exposure"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9, abs=1e-12), name


def test_a_sweep_from_no_cash_has_the_same_figures_from_the_engine() -> None:
    """Nothing is lost of nothing: a drawdown is a share of a highest equity above zero."""
    configs = [{"price": 95.0}, {"price": 105.0}]

    def rows(models: Models) -> list[SweepRow]:
        return sweep_arrays(replace(sweep_spec(models), strategies=[entry(Above, cash=0)]), configs)

    for one, other in zip(
        rows(Models(check_cash=False)), rows(Models(check_cash=False, slippage=Worse())), strict=True
    ):
        assert one.equity == other.equity
        assert one.max_drawdown == pytest.approx(other.max_drawdown)


def test_a_sweep_calls_hooks_as_a_run_does() -> None:
    class Refuses(Above):
        def setup(self, context: StrategyContext) -> bool:
            return False

    (row,) = sweep_arrays(replace(sweep_spec(), strategies=[entry(Refuses)]), [{"price": 100.0}])
    assert "answered that it cannot run" in row.error
    assert row.fills == 0


def test_every_set_of_a_sweep_is_checked_for_knowing_the_future() -> None:
    class Sees(Above):
        def signals_as_arrays(self, bars: BarSeries) -> SignalArrays:
            level = bars.close.mean() if self.config["sees"] else 100.0
            return SignalArrays(np.where(bars.close > level, 10.0, -10.0))

    made = replace(sweep_spec(), strategies=[entry(Sees)])
    rows = sweep_arrays(made, [{"sees": False}, {"sees": True}, {"sees": False}])
    assert ["it knows the future" in row.error for row in rows] == [False, True, False]


def test_a_set_whose_code_fails_has_its_error_and_the_others_go_on() -> None:
    rows = sweep_arrays(sweep_spec(), [{"price": 100.0}, {}, {"price": 101.0}])
    assert [bool(row.error) for row in rows] == [False, True, False]
    assert "KeyError: 'price'" in rows[1].error
    assert rows[1].fills == 0


def test_a_sweep_can_be_stopped_and_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1_000))
    monkeypatch.setattr("trading.backtest.compiled_sweep.time.perf_counter", lambda: next(now))
    told: list[float] = []
    rows = sweep_arrays(
        sweep_spec(),
        [{"price": float(n)} for n in range(90, 110)],
        progress=lambda done, text: told.append(done),
        should_stop=lambda: len(told) == 3,
    )
    assert len(rows) == 3
    assert told == [0.05, 0.1, 0.15]


def test_a_sweep_of_more_than_one_series_is_refused() -> None:
    bars = [BARS, minutes("Y", [flat(1)] * 5)]
    with pytest.raises(ConfigError, match="one strategy over one series"):
        sweep_arrays(spec_of([entry(Above)], bars), [{}])
