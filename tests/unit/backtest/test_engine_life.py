"""The run around the strategies: failures stay with their strategy, runs repeat to the bit, stops are heard."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strategies.bar_series import moment_of
from strategies.exceptions import ConfigError
from strategies.reactive import ReactiveStrategy, Signal, StrategyContext
from tests.support.backtests import BUY, D, days, fills_of, flat, making, minutes, scripted, series, spec_of
from trading.backtest import engine
from trading.backtest.contracts import BacktestResult, BacktestSpec, Models, StrategyEntry
from trading.backtest.engine import run_backtest

PAIRS = [("X", "1m")]


def entry(on_bars: Any, name: str = "S", pairs: Sequence[tuple[str, str]] = PAIRS) -> StrategyEntry:
    return StrategyEntry(name, "reactive", making(on_bars, pairs), {}, D(10_000))


def run(*entries: StrategyEntry, bars: int = 20) -> BacktestResult:
    return run_backtest(spec_of(entries, [minutes("X", [flat(100)] * bars)]))


def good(name: str = "GOOD") -> StrategyEntry:
    return scripted(name, PAIRS, {5: [Signal("X", BUY, 1)]}, cash=10_000)


# -- user code


def test_a_failing_strategy_is_stopped_alone_and_its_traceback_kept() -> None:
    def fail(self: ReactiveStrategy, symbol: str, interval: str) -> None:
        assert self.context is not None
        if len(self.context.get_bars(symbol, interval)) == 4:
            raise ZeroDivisionError("my own fault")

    result = run(entry(fail, "BAD"), good())
    bad = result.strategies["BAD"]
    assert len(bad.errors) == 1
    assert "ZeroDivisionError: my own fault" in bad.errors[0]
    assert "in fail" in bad.errors[0]
    assert bad.bars_seen == 4
    assert len(bad.equity_curve) == 20
    assert [fill.strategy for fill in result.fills] == ["GOOD"]
    assert result.strategies["GOOD"].bars_seen == 20


def test_a_strategy_that_failed_is_called_no_more_not_even_in_that_moment() -> None:
    calls = []

    def fail(self: ReactiveStrategy, symbol: str, interval: str) -> None:
        calls.append(symbol)
        raise ValueError

    bars = [minutes("X", [flat(1)] * 3), minutes("Y", [flat(1)] * 3)]
    pairs = [("X", "1m"), ("Y", "1m")]
    seen: list[str] = []
    after = entry(lambda self, symbol, interval: seen.append(symbol), "AFTER", pairs)
    result = run_backtest(spec_of([entry(fail, "BAD", pairs), after], bars))
    assert calls == ["X"]
    assert seen == ["X", "Y"] * 3
    assert len(result.strategies["BAD"].errors) == 1


def test_the_orders_of_a_failed_strategy_are_taken_back_and_its_exits_stay() -> None:
    class Fails(ReactiveStrategy):
        def get_subscriptions(self) -> Sequence[tuple[str, str]]:
            return [("X", "1d")]

        def on_bars(self, symbol: str, interval: str) -> Sequence[Signal]:
            assert self.context is not None
            number = len(self.context.get_bars(symbol, interval))
            if number == 1:
                return [Signal(symbol, BUY, 5, stop_loss=90), Signal(symbol, BUY, 1, price=50, tif="GTC")]
            if number == 2:
                raise RuntimeError
            return []

    bars = days("X", [flat(100), flat(100), flat(100), (100.0, 100.0, 40.0, 40.0), flat(40)])
    result = run_backtest(spec_of([StrategyEntry("S", "reactive", Fails, {}, D(10_000))], [bars]))
    assert fills_of(result) == [("5", "100"), ("-5", "90")]
    assert [order.state for order in result.orders] == ["filled", "cancelled", "filled"]
    assert result.orders[1].reason == "the strategy failed"


@pytest.mark.parametrize("answer", [42, "BUY", [None], ["BUY"], {"X": 1}])
def test_an_answer_that_is_no_signal_stops_the_strategy(answer: Any) -> None:
    result = run(entry(lambda self, symbol, interval: answer, "BAD"), good())
    assert result.strategies["BAD"].errors
    assert [fill.strategy for fill in result.fills] == ["GOOD"]


@pytest.mark.parametrize("answer", [None, [], (), 0])
def test_nothing_means_no_signal(answer: Any) -> None:
    assert not run(entry(lambda self, symbol, interval: answer)).strategies["S"].errors


def test_a_generator_of_signals_will_do() -> None:
    def one(self: ReactiveStrategy, symbol: str, interval: str) -> Any:
        yield Signal(symbol, BUY, 1)

    assert len(run(entry(one)).fills) == 19


def test_a_constructor_or_subscriptions_that_fail_stop_that_strategy_alone() -> None:
    class NoList(ReactiveStrategy):
        def get_subscriptions(self) -> Sequence[tuple[str, str]]:
            return [("X", "1m", "surplus")]  # type: ignore[list-item]

        def on_bars(self, symbol: str, interval: str) -> None:
            raise AssertionError("never called")

    def broken(name: str, config: Any) -> ReactiveStrategy:
        raise KeyError("universe")

    for make, text in ((broken, "universe"), (NoList, "too many values")):
        result = run(StrategyEntry("BAD", "reactive", make, {}, D(1)), good())
        assert text in result.strategies["BAD"].errors[0]
        assert result.strategies["BAD"].equity == 1
        assert result.fills


def test_setup_that_says_no_or_fails_keeps_a_strategy_from_running() -> None:
    class Refuses(ReactiveStrategy):
        def get_subscriptions(self) -> Sequence[tuple[str, str]]:
            return PAIRS

        def on_bars(self, symbol: str, interval: str) -> None:
            raise AssertionError("never called")

        def setup(self, context: StrategyContext) -> bool:
            if self.config:
                raise OSError("no such file")
            return False

    for config, text in (({}, "setup of BAD answered that it cannot run"), ({"x": 1}, "no such file")):
        result = run(StrategyEntry("BAD", "reactive", Refuses, config, D(1)), good())
        assert text in result.strategies["BAD"].errors[0]
        assert result.strategies["BAD"].bars_seen == 0
        assert result.fills


def test_a_failing_teardown_is_told_and_the_books_are_whole() -> None:
    class Untidy(ReactiveStrategy):
        def get_subscriptions(self) -> Sequence[tuple[str, str]]:
            return PAIRS

        def on_bars(self, symbol: str, interval: str) -> None:
            return None

        def teardown(self, context: StrategyContext) -> None:
            raise OSError("still open")

    outcome = run(StrategyEntry("S", "reactive", Untidy, {}, D(77))).strategies["S"]
    assert "still open" in outcome.errors[0]
    assert (outcome.equity, outcome.bars_seen) == (D(77), 20)


@pytest.mark.parametrize(
    "deed",
    [
        lambda bars: bars.close.__setitem__(-1, 1e9),
        lambda bars: setattr(bars.close.flags, "writeable", True),
        lambda bars: bars.append(bars[-1]),
        lambda bars: bars.starts.sort(),
    ],
)
def test_a_strategy_cannot_change_its_bars(deed: Any) -> None:
    bars = minutes("X", [flat(100)] * 20)
    before = [column.copy() for column in bars.whole()[1]]

    def mutate(self: ReactiveStrategy, symbol: str, interval: str) -> None:
        assert self.context is not None
        deed(self.context.get_bars(symbol, interval))

    result = run_backtest(spec_of([entry(mutate, "BAD"), good()], [bars]))
    assert len(result.strategies["BAD"].errors) == 1
    assert all(np.array_equal(a, b) for a, b in zip(bars.whole()[1], before, strict=True))
    assert result.fills


@pytest.mark.parametrize("where", [5, 1000, -3])
def test_a_cursor_that_somebody_moved_ends_the_run(where: int) -> None:
    """Beyond the cursor lies the future: no number that came of it may stand."""

    def peek(self: ReactiveStrategy, symbol: str, interval: str) -> None:
        assert self.context is not None
        bars = self.context.get_bars(symbol, interval)
        if len(bars) == 3:
            bars.count = where

    with pytest.raises(ConfigError, match="moved the cursor of X 1m"):
        run(entry(peek))


def test_nobody_sets_the_clock_of_a_run() -> None:
    def set_it(self: ReactiveStrategy, symbol: str, interval: str) -> None:
        assert self.context is not None
        self.context.time_manager.set_time(self.context.get_current_time())  # type: ignore[attr-defined]

    assert "nobody sets it" in run(entry(set_it)).strategies["S"].errors[0]


# -- equal runs


def digest(result: BacktestResult) -> str:
    """Everything that a run says, but for how long it took."""
    whole = hashlib.sha256()
    whole.update(repr((result.fills, result.orders, result.bars, result.started, result.ended)).encode())
    for name, outcome in result.strategies.items():
        whole.update(outcome.equity_ns.tobytes())
        whole.update(outcome.equity_curve.tobytes())
        figures = (
            name,
            outcome.cash,
            outcome.equity,
            outcome.realized,
            outcome.fees,
            outcome.positions,
            outcome.errors,
        )
        whole.update(repr(figures).encode())
    return whole.hexdigest()


def busy_spec() -> BacktestSpec:
    rng = np.random.default_rng(7)
    bars = []
    for symbol in "XYZ":
        close = np.round(100 + np.cumsum(rng.normal(0, 0.1, 3_000)), 2)
        rows = [(c, c + 0.1, c - 0.1, c, float(rng.integers(0, 300))) for c in close.tolist()]
        bars.append(minutes(symbol, rows))

    def trade(self: ReactiveStrategy, symbol: str, interval: str) -> Any:
        assert self.context is not None
        series = self.context.get_bars(symbol, interval)
        number, price = len(series), float(series.close[-1])
        if number % 7 == 0:
            return [Signal(symbol, BUY, 10, price=price - 0.05, stop_loss=price - 1, take_profit=price + 0.5)]
        return None

    pairs = [(symbol, "1m") for symbol in "XYZ"]
    return spec_of([entry(trade, name, pairs) for name in ("A", "B")], bars, Models())


def test_equal_specs_give_equal_results_bit_by_bit() -> None:
    spec = busy_spec()
    first = digest(run_backtest(spec))
    assert first == digest(run_backtest(spec))  # the same bars again
    assert first == digest(run_backtest(busy_spec()))  # bars of their own
    assert len(run_backtest(spec).fills) > 300


def test_another_process_gives_the_same_bits() -> None:
    """Whatever hangs on addresses or on the order of sets would differ there."""
    told = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import *; print(digest(run_backtest(busy_spec())))"],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.strip() == digest(run_backtest(busy_spec()))


def test_blocks_of_the_loop_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = digest(run_backtest(busy_spec()))
    monkeypatch.setattr(engine, "_LARGEST_BLOCK", 1)
    monkeypatch.setattr(engine, "_FIRST_BLOCK", 1)
    assert digest(run_backtest(busy_spec())) == usual


# -- progress


def test_progress_and_stop_are_asked_some_times_a_second_and_not_per_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("trading.backtest.engine.time.perf_counter", lambda: now[0])

    def slow(self: ReactiveStrategy, symbol: str, interval: str) -> None:
        now[0] += 0.01

    told: list[tuple[float, str]] = []
    asked: list[float] = []

    def ask() -> bool:
        asked.append(now[0])
        return False

    spec = spec_of([entry(slow)], [minutes("X", [flat(100)] * 1000)])
    run_backtest(spec, progress=lambda done, text: told.append((done, text)), should_stop=ask)
    assert 20 <= len(told) <= 50  # of ten seconds
    assert len(asked) == len(told)
    assert told == sorted(told)
    assert told[0][1] == "2024-01-02"


def test_a_stopped_run_is_whole_up_to_where_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("trading.backtest.engine.time.perf_counter", lambda: now[0])

    def slow(self: ReactiveStrategy, symbol: str, interval: str) -> Any:
        now[0] += 0.02
        return [Signal(symbol, BUY, 1)]

    bars = minutes("X", [flat(1)] * 1000)
    result = run_backtest(spec_of([entry(slow)], [bars]), should_stop=lambda: now[0] > 2)
    assert result.cancelled
    assert 90 < result.bars < 150
    outcome = result.strategies["S"]
    assert len(outcome.equity_curve) == result.bars == outcome.bars_seen == len(result.fills) + 1
    assert outcome.equity_curve[-1] == float(outcome.equity) == 10_000
    assert result.ended == moment_of(int(bars.starts[-1])) + timedelta(minutes=1)


def test_a_slow_run_still_hears_a_stop_between_two_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("trading.backtest.engine.time.perf_counter", lambda: now[0])

    def minutes_each(self: ReactiveStrategy, symbol: str, interval: str) -> None:
        now[0] += 60.0

    spec = spec_of([entry(minutes_each)], [minutes("X", [flat(1)] * 1000)])
    assert run_backtest(spec, should_stop=lambda: now[0] > 60 * 200).bars < 210


def test_names_of_strategies_differ() -> None:
    with pytest.raises(ConfigError, match="names of their own"):
        run(good(), good())


def test_an_empty_list_of_strategies_runs_the_bars() -> None:
    result = run_backtest(spec_of([], [series("X", "1d", days("X", [flat(1)]).whole()[0], [flat(1)])]))
    assert (result.bars, result.strategies) == (1, {})
