"""Scanners inside sessions: what they find is loaded, told and traded; the clock stands still meanwhile."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support.session_files import GATES
from tests.support.sessions import DAY, DAY_MINUTES, Run, Watcher, frames_of, minutes, raw_session, session
from trading.market.session_status import Phase

pytestmark = pytest.mark.e2e

OPEN = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
FOLLOWER = {"module": "follower", "config": {"pairs": [["AAPL", "1m"], ["AAPL", "5m"]], "every": 20}}


def finder(*, start: str = "10:00", end: str = "11:00", interval: str = "30m", **config: Any) -> dict[str, Any]:
    return {
        "module": "scanners.finder",
        "regular_session": [{"start": start, "end": end, "interval": interval}],
        "config": config,
    }


def with_scanners(*scanners: dict[str, Any], **parts: Any) -> dict[str, Any]:
    data = {"scanners": list(scanners), **parts.pop("data", {})}
    return raw_session([FOLLOWER], data=data, **parts)


def at(minute: int) -> datetime:
    return OPEN + pd.Timedelta(minutes=minute).to_pytimedelta()


def told_of(run: Run, symbol: str, interval: str = "1m") -> list[int]:
    """Return the starts of the bars that the follower was told of, in minutes since the open."""
    strategy: Any = run.strategy("follower")
    opens = int(OPEN.timestamp()) * 10**9
    return [
        (start - opens) // 60_000_000_000 for one, kind, start in strategy.told if (one, kind) == (symbol, interval)
    ]


@pytest.mark.parametrize("speed", [0, 60_000])
def test_scanner_and_strategy_integration(session_files: Path, speed: float) -> None:
    """A scanner finds TSLA at 10:30; it is loaded, strategies are told, and trade it from the next bar on."""
    raw = with_scanners(finder(universe=["TSLA", "GOOGL"], finds=["TSLA"], at_scan=2), speed=speed)
    run = session(raw, frames_of({"AAPL": 1, "TSLA": 2, "GOOGL": 3})).go()
    strategy: Any = run.strategy("follower")
    assert strategy.added == [("TSLA", at(60), 60)], "told at the scan, with the day's bars already there"
    assert told_of(run, "TSLA") == list(range(60, DAY_MINUTES)), "from the next bar on, none twice, none lost"
    assert told_of(run, "TSLA", "5m") == list(range(60, DAY_MINUTES, 5))
    assert told_of(run, "AAPL") == list(range(DAY_MINUTES))
    assert {fill.symbol for fill in run.desk.fills} == {"AAPL", "TSLA"}
    assert min(fill.time_ns for fill in run.desk.fills if fill.symbol == "TSLA") >= int(at(61).timestamp()) * 10**9
    promoted = [record.result.promoted for record in run.watcher.scans]
    assert promoted == [[], ["TSLA"], []], "promotion is idempotent"
    symbols = {entry["symbol"]: entry["added_by"] for entry in run.metrics["symbols"]}
    assert symbols == {"AAPL": "", "TSLA": "finder"}


def test_scans_lie_on_the_grid_and_see_what_was_closed_by_then(session_files: Path) -> None:
    run = session(with_scanners(finder(universe=["TSLA"])), frames_of({"AAPL": 1, "TSLA": 2})).go()
    assert [record.at for record in run.watcher.scans] == [at(30), at(60), at(90)]
    assert [record.universe for record in run.watcher.scans] == [1, 1, 1]
    assert all(record.result.execution_time_ms > 0 for record in run.watcher.scans)
    scanner = _scanner(run)
    assert scanner.times == [(at(30), {"TSLA": 30}), (at(60), {"TSLA": 60}), (at(90), {"TSLA": 90})]


def test_a_scan_in_a_gap_of_the_bars_is_made_at_its_time(session_files: Path) -> None:
    frames = frames_of({"AAPL": 1})
    frames["AAPL", "1m"] = frames["AAPL", "1m"].drop(frames["AAPL", "1m"].index[20:80])
    run = session(with_scanners(finder()), frames).go()
    assert [record.at for record in run.watcher.scans] == [at(30), at(60), at(90)]


def test_light_symbols_are_told_to_nobody_and_removed_after_the_last_scan(session_files: Path) -> None:
    raw = with_scanners(finder(universe=["TSLA", "GOOGL"], finds=["GOOGL"]))
    raw["session_data_config"]["strategies"][0] = {
        "module": "follower",
        "config": {"pairs": [["AAPL", "1m"], ["TSLA", "1m"]]},
    }
    seen: list[tuple[datetime, bool, bool]] = []

    def look(strategy: Any, symbol: str, interval: str) -> None:
        data = strategy.context.session_data
        if symbol == "AAPL" and interval == "1m":
            now = strategy.context.get_current_time()
            seen.append((now, data.is_registered("TSLA"), data.is_registered("GOOGL")))

    GATES["follower"] = look
    run = session(raw, frames_of({"AAPL": 1, "TSLA": 2, "GOOGL": 3})).go()
    assert told_of(run, "TSLA") == [], "followed, but there for the scanner alone"
    assert all(there for now, there, _ in seen if now <= at(90))
    assert not any(there for now, there, _ in seen if now > at(91))
    assert all(there for _, _, there in seen), "promoted symbols stay"


def test_a_scanner_of_the_morning_finds_before_the_open_by_the_days_before(session_files: Path) -> None:
    days = [date(2023, 12, 29), DAY]
    raw = with_scanners(
        {"module": "scanners.finder", "pre_session": True, "config": {"universe": ["TSLA"], "finds": ["TSLA"]}}
    )
    run = session(raw, frames_of({"AAPL": 1, "TSLA": 2}, days)).go()
    [record] = run.watcher.scans
    assert record.at == OPEN
    assert told_of(run, "TSLA") == list(range(DAY_MINUTES))
    assert _scanner(run).times == [(OPEN, {"TSLA": DAY_MINUTES})]


def test_pause_for_scanner(session_files: Path) -> None:
    """While a backtest scans its clock stands still and nobody hears a bar; pause and resume work around it."""
    entered, release = threading.Event(), threading.Event()

    class Slow(Watcher):
        def scanned(self, record: Any) -> None:
            super().scanned(record)
            if len(self.scans) == 1:
                entered.set()
                assert release.wait(20)

    run = session(
        with_scanners(finder(universe=["TSLA"], finds=["TSLA"])), frames_of({"AAPL": 1, "TSLA": 2}), Slow()
    ).start()
    assert entered.wait(20)
    strategy: Any = run.strategy("follower")
    heard, stands = len(strategy.told), run.system.get_time_manager().get_current_time()
    assert stands == at(30)
    run.coordinator.pause()
    threading.Event().wait(0.2)
    assert (len(strategy.told), run.system.get_time_manager().get_current_time()) == (heard, stands)
    release.set()
    _until(lambda: run.coordinator.phase is Phase.PAUSED)
    assert run.system.get_time_manager().get_current_time() == stands
    run.coordinator.resume()
    run.finish()
    assert told_of(run, "AAPL") == list(range(DAY_MINUTES))
    assert told_of(run, "TSLA") == list(range(30, DAY_MINUTES))


def test_a_symbol_without_bars_is_told_and_the_session_goes_on(session_files: Path) -> None:
    run = session(with_scanners(finder(finds=["NONE"])), frames_of({"AAPL": 1})).go()
    assert "no stored bars of NONE" in str(run.watcher.scans[0].result.error)
    assert told_of(run, "AAPL") == list(range(DAY_MINUTES))


def test_a_scanner_that_fails_is_in_error_and_the_session_goes_on(session_files: Path) -> None:
    (session_files / "scanners" / "broken.py").write_text(
        "from trading.market.scanners.base import BaseScanner\n"
        "class BrokenScanner(BaseScanner):\n"
        "    def scan(self, context):\n"
        "        raise RuntimeError('broken on purpose')\n"
    )
    raw = with_scanners({**finder(), "module": "scanners.broken"})
    states: list[str] = []

    def look(strategy: Any, symbol: str, interval: str) -> None:
        states.extend(row["state"] for row in run.metrics["scanners"])

    GATES["follower"] = look
    run = session(raw, frames_of({"AAPL": 1}))
    run.go()
    assert states[-1] == "error"
    assert run.watcher.scans[0].result.error == "RuntimeError: broken on purpose"
    assert len(run.watcher.scans) == 1


def test_the_same_symbol_promoted_by_two_scanners_is_loaded_once(session_files: Path) -> None:
    source = (session_files / "scanners" / "finder.py").read_text()
    (session_files / "scanners" / "seeker.py").write_text(source.replace("FinderScanner", "SeekerScanner"))
    raw = with_scanners(
        finder(finds=["TSLA"], universe=["TSLA"]),
        {**finder(finds=["TSLA"], start="10:10"), "module": "scanners.seeker"},
    )
    run = session(raw, frames_of({"AAPL": 1, "TSLA": 2})).go()
    strategy: Any = run.strategy("follower")
    assert [symbol for symbol, _, _ in strategy.added] == ["TSLA"]
    assert told_of(run, "TSLA") == list(range(30, DAY_MINUTES))


def test_a_symbol_is_added_by_hand_during_the_session(session_files: Path) -> None:
    outcome: list[Any] = []

    def gate(strategy: Any, symbol: str, interval: str) -> None:
        if len(strategy.told) == 50:
            outcome.append(run.coordinator.add_symbol("TSLA", "operator"))

    GATES["follower"] = gate
    run = session(raw_session([FOLLOWER]), frames_of({"AAPL": 1, "TSLA": 2}))
    run.go()
    assert outcome[0].result(5) is True
    first = told_of(run, "TSLA")[0]
    assert told_of(run, "TSLA") == list(range(first, DAY_MINUTES))
    assert 30 < first < 60


# -- the shipped scanners on bars


def test_the_gap_scanner_measures_against_yesterdays_close(session_files: Path) -> None:
    days = [date(2023, 12, 29), DAY]
    frames = frames_of({"AAPL": 1, "TSLA": 2, "GOOGL": 3}, days)
    # TSLA opens 5 % above yesterday's close, on volume; GOOGL too, but on little; AAPL where it closed.
    for symbol, volume in (("AAPL", 50_000.0), ("TSLA", 50_000.0), ("GOOGL", 10.0)):
        before = minutes({"AAPL": 1, "TSLA": 2, "GOOGL": 3}[symbol], days[0])
        price = float(before["close"].iloc[-1]) * (1.0 if symbol == "AAPL" else 1.05)
        today = minutes(9, DAY, price=round(price, 2), volume=volume)
        frames[symbol, "1m"] = pd.concat([before, today])
    gap = {
        "module": "scanners.gap",
        "regular_session": [{"start": "10:00", "end": "10:00", "interval": "5m"}],
        "config": {"universe": ["AAPL", "TSLA", "GOOGL"]},
    }
    run = session(with_scanners(gap), frames).go()
    [record] = run.watcher.scans
    assert record.result.symbols == ["TSLA"]
    figures = record.result.metadata["TSLA"]
    assert figures["gap_percent"] == pytest.approx(5.0, abs=0.05)
    assert figures["volume"] == 30 * 50_000


def test_the_momentum_scanner_wants_an_up_bar_above_the_average_on_volume(session_files: Path) -> None:
    frames = frames_of({"AAPL": 1})
    rising, falling = minutes(4, volume=100_000.0), minutes(4, volume=100_000.0)
    for frame, step in ((rising, 0.05), (falling, -0.05)):
        closes = [100 + step * n for n in range(DAY_MINUTES)]
        frame["close"], frame["open"] = closes, [close - step for close in closes]
        frame["high"], frame["low"] = (
            frame[["open", "close"]].max(axis=1) + 0.01,
            frame[["open", "close"]].min(axis=1) - 0.01,
        )
    frames |= {("UP", "1m"): rising, ("DOWN", "1m"): falling, ("THIN", "1m"): rising.assign(volume=1.0)}
    momentum = {
        "module": "scanners.momentum",
        "regular_session": [{"start": "11:30", "end": "11:30", "interval": "5m"}],
        "config": {"universe": ["DOWN", "THIN", "UP"]},
    }
    run = session(with_scanners(momentum), frames).go()
    [record] = run.watcher.scans
    assert record.result.symbols == ["UP"]
    assert record.result.metadata["UP"]["volume"] == 120 * 100_000


def _scanner(run: Run) -> Any:
    """Return the finder of the session, from the list that its class keeps."""
    import sys

    modules = [module for name, module in sys.modules.items() if name.startswith("mats_strategy_finder_")]
    return modules[-1].FinderScanner.made[-1]


def _until(condition: Any, timeout_s: float = 20.0) -> None:
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come to that")
