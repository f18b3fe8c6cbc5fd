"""Sessions by the clock: the market does not wait, whoever is slow overruns, and nobody hears less for it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.session_files import GATES
from tests.support.sessions import DAY_MINUTES, Run, config_of, frames_of, raw_session, session
from trading.market.session_status import Phase

pytestmark = pytest.mark.e2e

FAST = 60_000  # a minute a millisecond
RECORDER = {"module": "recorder", "config": {"pairs": [["AAPL", "1m"], ["AAPL", "5m"]], "every": 7}}
OTHER = {"module": "other", "config": {"pairs": [["AAPL", "1m"]]}}


def told(run: Run, name: str) -> list[tuple[str, str, int]]:
    """Return what a recording strategy was told."""
    found: list[tuple[str, str, int]] = run.strategy(name).told  # type: ignore[attr-defined]
    return found


def test_clock_driven_with_fast_strategy(session_files: Path) -> None:
    """Quick strategies hear everything in time and trade as from bar to bar."""
    frames = frames_of({"AAPL": 11})
    by_clock = session(raw_session([RECORDER], speed=FAST), frames).go()
    by_bar = session(raw_session([RECORDER]), frames).go()
    assert told(by_clock, "recorder") == told(by_bar, "recorder")
    assert len(told(by_clock, "recorder")) == DAY_MINUTES + DAY_MINUTES // 5
    assert by_clock.metrics["totals"]["overruns"] == 0
    assert by_clock.fills() == by_bar.fills()
    assert by_clock.watcher.statuses[-1].clock == datetime(2024, 1, 2, 21, 0, tzinfo=UTC)


def test_clock_driven_with_the_shipped_strategy() -> None:
    raw = config_of("test_single_strategy")
    raw["backtest_config"]["speed_multiplier"] = FAST
    run = session(raw, frames_of({"AAPL": 11})).go()
    assert run.config.run_mode.value == "clock-driven"
    assert run.metrics["totals"]["notifications"] == DAY_MINUTES // 5
    assert run.fills() == session(config_of("test_single_strategy"), frames_of({"AAPL": 11})).go().fills()


def test_clock_driven_with_slow_strategy(session_files: Path) -> None:
    """The clock goes on past a strategy that is slow: it overruns, and hears of every bar later."""
    release, entered = threading.Event(), threading.Event()

    def gate(strategy: Any, symbol: str, interval: str) -> None:
        if len(strategy.told) == 5:
            entered.set()
            assert release.wait(30)

    GATES["recorder"] = gate
    run = session(raw_session([RECORDER, OTHER], speed=FAST), frames_of({"AAPL": 11})).start()
    assert entered.wait(20)
    other: Any = run.strategy("other")
    stood = len(other.told)
    _until(lambda: len(other.told) >= stood + 5)
    queue = run.metrics["strategies"][0]
    assert queue["queue_size"] > 0
    assert queue["overruns"] > 0
    release.set()
    run.finish(120)
    rows = {row["strategy_name"]: row for row in run.metrics["strategies"]}
    assert rows["recorder"]["overruns"] > 0
    assert rows["other"]["overruns"] == 0
    assert len(other.told) == DAY_MINUTES


def test_clock_driven_backpressure_metrics(session_files: Path) -> None:
    """Every step waits a tenth of a second at most; the figures say who holds it up."""

    def gate(strategy: Any, symbol: str, interval: str) -> None:
        if 3 <= len(strategy.told) <= 5:
            threading.Event().wait(0.25)

    GATES["recorder"] = gate
    raw = raw_session([{"module": "recorder", "config": {"pairs": [["AAPL", "1m"]]}}, OTHER], speed=FAST)
    run = session(raw, frames_of({"AAPL": 11})).go()
    metrics = run.metrics
    rows = {row["strategy_name"]: row for row in metrics["strategies"]}
    assert metrics["slowest_strategy"] == "recorder"
    assert rows["recorder"]["max_processing_time_ms"] >= 250
    assert rows["other"]["max_processing_time_ms"] < 250
    assert rows["recorder"]["overruns"] >= 1
    assert metrics["totals"]["overruns"] == rows["recorder"]["overruns"] + rows["other"]["overruns"]
    assert len(told(run, "recorder")) == DAY_MINUTES, "late is not lost"


def test_a_pause_stands_the_clock_still_and_is_left_out_of_the_pace(session_files: Path) -> None:
    reached = threading.Event()

    def gate(strategy: Any, symbol: str, interval: str) -> None:
        if len(strategy.told) == 20:
            run.coordinator.pause()
            reached.set()

    GATES["recorder"] = gate
    run = session(raw_session([RECORDER], speed=FAST), frames_of({"AAPL": 4})).start()
    assert reached.wait(20)
    _until(lambda: run.coordinator.phase is Phase.PAUSED)
    stands = run.system.get_time_manager().get_current_time()
    threading.Event().wait(0.2)
    assert run.system.get_time_manager().get_current_time() == stands
    run.coordinator.resume()
    run.finish()
    assert len(told(run, "recorder")) == DAY_MINUTES + DAY_MINUTES // 5


def test_stop_does_not_wait_for_the_next_step(session_files: Path) -> None:
    run = session(raw_session([RECORDER], speed=1), frames_of({"AAPL": 4})).start()  # a step a minute
    assert run.system.stop_session(10)
    assert run.coordinator.phase is Phase.STOPPED


def test_a_gap_in_the_bars_is_passed_minute_by_minute(session_files: Path) -> None:
    frames = frames_of({"AAPL": 4})
    frames["AAPL", "1m"] = frames["AAPL", "1m"].drop(frames["AAPL", "1m"].index[100:160])
    run = session(raw_session([RECORDER], speed=FAST), frames).go()
    assert len([one for one in told(run, "recorder") if one[1] == "1m"]) == DAY_MINUTES - 60
    assert len([one for one in told(run, "recorder") if one[1] == "5m"]) == (DAY_MINUTES - 60) // 5
    [row] = run.metrics["symbols"]
    assert row["quality"] == pytest.approx(100 * 330 / 390, abs=0.01)
    assert row["is_poor"]


def _until(condition: Any, timeout_s: float = 20.0) -> None:
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come to that")
