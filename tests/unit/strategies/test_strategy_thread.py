"""StrategyThread: its queue, its life, its figures, and that nothing a strategy does hurts more than itself."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from strategies.exceptions import StrategyError
from strategies.reactive import Signal, SignalAction
from tests.support.reactive import Gateable, RecordingStrategy, buy, standing_context, wait_until
from trading.market.strategy_thread import StrategyThread, queue_size_setting

METRICS = {
    "strategy_name",
    "running",
    "mode",
    "notifications_processed",
    "signals_generated",
    "errors",
    "queue_size",
    "avg_processing_time_ms",
    "max_processing_time_ms",
    "overruns",
}
Maker = Callable[..., StrategyThread]


@pytest.fixture
def make() -> Iterator[Maker]:
    """Make threads that are always ended."""
    made: list[StrategyThread] = []

    def _make(strategy: RecordingStrategy | None = None, mode: str = "data-driven", **options: Any) -> StrategyThread:
        options.setdefault("queue_size", 1000)
        thread = StrategyThread(strategy or RecordingStrategy("test", {}), standing_context(), mode, **options)
        made.append(thread)
        return thread

    yield _make
    for thread in made:
        thread.stop()
        if thread.ident is not None:
            thread.join(5.0)


def recording(thread: StrategyThread) -> RecordingStrategy:
    assert isinstance(thread.strategy, RecordingStrategy)
    return thread.strategy


def test_thread_creation(make: Maker) -> None:
    """It knows its strategy and does not run."""
    strategy = RecordingStrategy("test", {})
    thread = make(strategy)
    assert thread.strategy is strategy
    assert thread.mode == "data-driven"
    assert (thread.name, thread.daemon) == ("Strategy-test", True)
    assert not thread.is_alive()


def test_unknown_mode_is_refused(make: Maker) -> None:
    with pytest.raises(ValueError, match="mode"):
        make(mode="sometimes")


def test_thread_lifecycle(make: Maker) -> None:
    """It starts and ends."""
    thread = make()
    thread.start()
    assert thread.is_alive()
    thread.stop()
    thread.join(timeout=5.0)
    assert not thread.is_alive()


def test_stop_ends_a_thread_that_waits_for_notifications_at_once(make: Maker) -> None:
    thread = make()
    thread.start()
    thread.notify("AAPL", "5m")
    assert thread.get_subscription().wait_until_ready()
    thread.stop()
    thread.join(timeout=0.9)  # less than the pause between two looks at the stop
    assert not thread.is_alive()


def test_stop_before_the_start_lets_the_thread_end_by_itself(make: Maker) -> None:
    thread = make()
    thread.stop()
    thread.start()
    thread.join(5.0)
    assert not thread.is_alive()


def test_notification_routing(make: Maker) -> None:
    """It reaches the strategy on its own thread."""
    thread = make()
    thread.start()
    thread.notify("AAPL", "5m")
    assert thread.get_subscription().wait_until_ready()
    assert recording(thread).calls == [("AAPL", "5m")]
    assert recording(thread).threads == {"Strategy-test"}


def test_notifications_are_handled_in_their_order(make: Maker) -> None:
    thread = make()
    pairs = [(f"S{number}", "1m") for number in range(200)]
    for pair in pairs:
        thread.notify(*pair)
    thread.start()
    assert thread.get_subscription().wait_until_ready()
    assert recording(thread).calls == pairs


def test_notifying_does_not_wait_for_a_busy_strategy(make: Maker) -> None:
    strategy, gate = RecordingStrategy("busy", {}), Gateable()
    strategy.act = gate
    thread = make(strategy, mode="live")
    thread.start()
    thread.notify("AAPL", "5m")
    gate.wait_entered()
    for _ in range(10):
        thread.notify("AAPL", "5m")  # would hang here for ever if it waited
    assert thread.get_queue_size() == 10
    gate.let_go(11)
    assert thread.get_subscription().wait_until_ready(10.0)


@pytest.mark.parametrize("mode", ["clock-driven", "live"])
def test_full_queue_drops_what_is_new_counts_it_and_tells_once(make: Maker, mode: str) -> None:
    strategy, gate, told = RecordingStrategy("slow", {}), Gateable(), list[str]()
    strategy.act = gate
    thread = make(strategy, mode=mode, queue_size=2, on_trouble=lambda text, error: told.append(text))
    thread.start()
    thread.notify("AAPL", "1m")
    gate.wait_entered()
    for number in range(5):
        thread.notify(f"S{number}", "1m")
    assert (thread.dropped, thread.get_metrics()["errors"]) == (3, 3)
    assert len(told) == 1
    assert "S2 1m first" in told[0]
    gate.let_go(3)
    assert thread.get_subscription().wait_until_ready(10.0), "what was dropped is not waited for"
    assert strategy.calls == [("AAPL", "1m"), ("S0", "1m"), ("S1", "1m")]


def test_data_driven_drops_nothing_however_much_waits(make: Maker) -> None:
    thread = make(queue_size=2)
    for number in range(500):
        thread.notify(f"S{number}", "1m")
    thread.start()
    assert thread.get_subscription().wait_until_ready()
    assert len(recording(thread).calls) == 500
    assert thread.get_metrics()["errors"] == 0


def test_queue_is_bounded_by_the_setting(settings: Any) -> None:
    settings.MATS = dataclasses.replace(settings.MATS, notification_queue=3)
    assert queue_size_setting() == 3
    thread = StrategyThread(RecordingStrategy("test", {}), standing_context(), "live")
    for _ in range(5):
        thread.notify("AAPL", "5m")
    assert (thread.get_queue_size(), thread.dropped) == (3, 2)


def test_metrics_tracking(make: Maker) -> None:
    """They have exactly the keys of the contract."""
    strategy = RecordingStrategy("test", {})
    strategy.act = buy
    thread = make(strategy)
    thread.start()
    thread.notify("AAPL", "5m")
    thread.notify("AAPL", "5m")
    assert thread.get_subscription().wait_until_ready()
    metrics = thread.get_metrics()
    assert set(metrics) == METRICS
    assert metrics["strategy_name"] == "test"
    assert metrics["running"] is True
    assert metrics["mode"] == "data-driven"
    assert (metrics["notifications_processed"], metrics["signals_generated"]) == (2, 2)
    assert (metrics["errors"], metrics["queue_size"], metrics["overruns"]) == (0, 0, 0)
    assert 0 < metrics["avg_processing_time_ms"] <= metrics["max_processing_time_ms"]


def test_metrics_of_a_thread_without_work_are_zeros(make: Maker) -> None:
    metrics = make().get_metrics()
    assert metrics["running"] is False
    assert metrics["avg_processing_time_ms"] == metrics["max_processing_time_ms"] == 0.0


@pytest.mark.parametrize("mode", ["data-driven", "clock-driven", "live"])
def test_error_is_counted_and_told_and_the_strategy_goes_on(make: Maker, mode: str) -> None:
    strategy, told = RecordingStrategy("broken", {}), list[tuple[str, BaseException | None]]()

    def act(symbol: str, interval: str) -> list[Signal]:
        if symbol == "BAD":
            raise KeyError("not there")
        return []

    strategy.act = act
    thread = make(strategy, mode=mode, on_trouble=lambda text, error: told.append((text, error)))
    thread.start()
    for symbol in ("AAPL", "BAD", "TSLA"):
        thread.notify(symbol, "5m")
    assert thread.get_subscription().wait_until_ready(10.0), "an error must not hold up the processor"
    assert [symbol for symbol, _ in strategy.calls] == ["AAPL", "BAD", "TSLA"]
    metrics = thread.get_metrics()
    assert (metrics["errors"], metrics["notifications_processed"]) == (1, 2)
    assert len(told) == 1
    assert "on_bars(BAD, 5m) failed: KeyError" in told[0][0]
    assert isinstance(told[0][1], KeyError)


def test_errors_in_a_row_are_counted_until_one_bar_goes_well(make: Maker) -> None:
    strategy = RecordingStrategy("broken", {})
    strategy.act = lambda symbol, interval: [] if symbol == "GOOD" else [][0]
    thread = make(strategy)
    thread.start()
    for symbol in ("BAD", "BAD"):
        thread.notify(symbol, "5m")
    assert thread.get_subscription().wait_until_ready()
    assert thread.errors_in_a_row == 2
    thread.notify("GOOD", "5m")
    assert thread.get_subscription().wait_until_ready()
    assert thread.errors_in_a_row == 0


def test_sys_exit_ends_this_strategy_alone_and_a_data_driven_wait_says_so(make: Maker) -> None:
    strategy = RecordingStrategy("leaver", {})

    def act(symbol: str, interval: str) -> list[Signal]:
        raise SystemExit(3)

    strategy.act = act
    thread, other = make(strategy), make(RecordingStrategy("other", {}))
    thread.get_subscription()._look_every_s = 0.01
    for one in (thread, other):
        one.notify("AAPL", "5m")
        one.notify("TSLA", "5m")
        one.start()
    with pytest.raises(StrategyError, match="died"):
        thread.get_subscription().wait_until_ready()
    assert isinstance(thread.failure, SystemExit)
    assert other.get_subscription().wait_until_ready()


def test_nothing_returned_means_no_signals(make: Maker) -> None:
    strategy = RecordingStrategy("quiet", {})
    strategy.act = lambda symbol, interval: None
    thread = make(strategy)
    thread.start()
    thread.notify("AAPL", "5m")
    assert thread.get_subscription().wait_until_ready()
    assert (thread.get_metrics()["signals_generated"], thread.get_metrics()["errors"]) == (0, 0)


@pytest.mark.parametrize("answer", [Signal("AAPL", SignalAction.BUY), ["BUY"], [Signal("A", SignalAction.BUY), None]])
def test_what_is_no_signal_is_an_error_and_reaches_nobody(make: Maker, answer: Any) -> None:
    taken: list[Sequence[Signal]] = []
    strategy = RecordingStrategy("odd", {})
    strategy.act = lambda symbol, interval: answer
    thread = make(strategy, on_signals=lambda symbol, interval, signals: taken.append(signals))
    thread.start()
    thread.notify("AAPL", "5m")
    assert thread.get_subscription().wait_until_ready()
    assert thread.get_metrics()["errors"] == 1
    assert taken == []


def test_signals_are_handed_on_before_the_processor_goes_on(make: Maker) -> None:
    taken: list[tuple[str, str, str]] = []
    strategy = RecordingStrategy("buyer", {})
    strategy.act = buy
    thread = make(
        strategy, on_signals=lambda symbol, interval, signals: taken.append((symbol, interval, signals[0].symbol))
    )
    thread.start()
    for number in range(50):
        thread.notify(f"S{number}", "1m")
        assert thread.get_subscription().wait_until_ready()
        assert taken[-1] == (f"S{number}", "1m", f"S{number}")


def test_call_runs_between_notifications_on_the_strategys_thread(make: Maker) -> None:
    strategy, gate = RecordingStrategy("called", {}), Gateable()
    strategy.act = gate
    thread = make(strategy)
    thread.start()
    thread.notify("AAPL", "1m")
    gate.wait_entered()
    future = thread.call(lambda: (threading.current_thread().name, len(strategy.calls)))
    assert not future.done()
    gate.let_go()
    assert future.result(10.0) == ("Strategy-called", 1)


def test_call_before_the_start_and_from_the_thread_itself_is_done_at_once(make: Maker) -> None:
    thread = make()
    assert thread.call(lambda: 7).result(0) == 7
    thread.start()
    assert thread.call(lambda: thread.call(lambda: 8).result(0)).result(10.0) == 8


def test_call_gives_back_what_it_raises(make: Maker) -> None:
    thread = make()
    thread.start()
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 // 0).result(10.0)
    assert thread.is_alive()


def test_call_that_a_dying_thread_never_comes_to_is_answered(make: Maker) -> None:
    strategy, entered, go = RecordingStrategy("dying", {}), threading.Event(), threading.Event()

    def act(symbol: str, interval: str) -> list[Signal]:
        entered.set()
        go.wait(10.0)
        raise SystemExit

    strategy.act = act
    thread = make(strategy)
    thread.start()
    thread.notify("AAPL", "1m")
    assert entered.wait(10.0)
    future = thread.call(lambda: None)
    go.set()
    with pytest.raises(StrategyError, match="ended before"):
        future.result(10.0)
    wait_until(lambda: not thread.is_alive())
    assert thread.call(lambda: 5).result(0) == 5


def test_finish_leaves_waiting_notifications_undone_and_runs_its_work_last(make: Maker) -> None:
    strategy, gate = RecordingStrategy("finishing", {}), Gateable()
    strategy.act = gate
    thread = make(strategy, mode="live")
    thread.start()
    thread.notify("AAPL", "1m")
    gate.wait_entered()
    for _ in range(3):
        thread.notify("TSLA", "1m")
    last = thread.finish(lambda: strategy.teardown(thread.context))
    thread.notify("LATE", "1m")
    gate.let_go()
    last.result(10.0)
    thread.join(5.0)
    assert not thread.is_alive()
    assert strategy.calls == [("AAPL", "1m")]
    assert strategy.hooks == ["teardown"]
    assert thread.get_subscription().is_ready(), "what was left undone is waited for by nobody"


def test_overruns_of_the_subscription_are_in_the_metrics(make: Maker) -> None:
    strategy, gate = RecordingStrategy("late", {}), Gateable()
    strategy.act = gate
    thread = make(strategy, mode="clock-driven")
    thread.start()
    thread.notify("AAPL", "1m")
    assert not thread.get_subscription().wait_until_ready(0.001)
    thread.get_subscription().reset()
    thread.notify("AAPL", "1m")
    assert thread.get_metrics()["overruns"] == 2
    gate.let_go(2)


def test_join_of_a_thread_that_does_not_end_is_told(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    strategy, gate = RecordingStrategy("stuck", {}), Gateable()
    strategy.act = gate
    thread = make(strategy)
    thread.start()
    thread.notify("AAPL", "1m")
    gate.wait_entered()
    thread.stop()
    thread.join(timeout=0.01)
    assert "strategy=stuck thread did not end" in caplog.text
    gate.let_go()
