"""The life of scanners: states, the order of a day, promotion, what is left behind, and background scans."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from strategies.exceptions import ConflictError, TransientError
from trading.market.scanners.base import BaseScanner, MarketScan, Need, ScanContext, ScanResult
from trading.market.scanners.manager import NEXT, Planned, ScannerManager, ScannerState, ScanRecord
from trading.market.time_manager import TimeManager

OPEN = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
WAIT_S = 10.0


class Host:
    """A session at its edges: what was provisioned, promoted, discarded, in order."""

    mode = "backtest"

    def __init__(self) -> None:
        self.time_manager = TimeManager("backtest")
        self.time_manager.set_time(OPEN)
        self.session_data: Any = None
        self.log: list[str] = []
        self.full: set[str] = set()
        self.locked: set[str] = set()
        self.refused: set[str] = set()

    def provision(self, needs: Sequence[Need]) -> None:
        self.log += [f"provision {need.symbol} {need.interval} {need.bars}" for need in needs]

    def market_scan(self, scan: MarketScan) -> list[str]:
        return []

    def is_locked(self, symbol: str) -> bool:
        return symbol in self.locked

    def promote(self, symbol: str, by: str) -> bool:
        if symbol in self.refused:
            raise TransientError(f"There are no bars of {symbol}.")
        self.log.append(f"promote {symbol} {by}")
        is_new = symbol not in self.full
        self.full.add(symbol)
        return is_new

    def discard(self, symbol: str) -> None:
        self.log.append(f"discard {symbol}")


class Finder(BaseScanner):
    """Looks at three symbols and promotes what it is told to."""

    def __init__(self, universe: Sequence[str] = ("A", "B", "C"), wanted: Sequence[str] = ("B",)) -> None:
        super().__init__({"universe": list(universe)})
        self.wanted = list(wanted)
        self.calls: list[str] = []
        self.times: list[datetime] = []
        self.gives_up = False

    def setup(self, context: ScanContext) -> bool:
        self.calls.append("setup")
        for symbol in context.universe:
            context.add_bars(symbol, "1m", 5)
        return not self.gives_up

    def scan(self, context: ScanContext) -> ScanResult:
        self.calls.append("scan")
        self.times.append(context.get_current_time())
        for symbol in self.wanted:
            context.add_symbol(symbol)
        return ScanResult(list(self.wanted), {symbol: {"figure": 1.0} for symbol in self.wanted})

    def teardown(self, context: ScanContext) -> None:
        self.calls.append("teardown")


class Broken(Finder):
    """Raises where it is told to."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def setup(self, context: ScanContext) -> bool:
        super().setup(context)
        if self.where == "setup":
            raise RuntimeError("broken setup")
        return True

    def scan(self, context: ScanContext) -> ScanResult:
        if self.where == "scan":
            raise RuntimeError("broken scan")
        if self.where == "answer":
            return ["A"]  # type: ignore[return-value]  # what a beginner may write
        return super().scan(context)

    def teardown(self, context: ScanContext) -> None:
        if self.where == "teardown":
            raise RuntimeError("broken teardown")


def planned(
    scanner: BaseScanner, minutes: Sequence[int] = (5, 10), *, pre: bool = False, name: str = "find"
) -> Planned:
    return Planned(name, scanner, [OPEN + timedelta(minutes=n) for n in minutes], pre)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def records() -> list[ScanRecord]:
    return []


@pytest.fixture
def manager(host: Host, records: list[ScanRecord]) -> ScannerManager:
    return ScannerManager(host, records.append, in_background=False)


def go_to(manager: ScannerManager, host: Host, minute: int) -> None:
    host.time_manager.set_time(OPEN + timedelta(minutes=minute))
    manager.run_due(host.time_manager.get_current_time())


def state_of(manager: ScannerManager) -> str:
    return str(manager.status()[0]["state"])


def test_a_day_goes_from_setup_through_scans_to_teardown(
    manager: ScannerManager, host: Host, records: list[ScanRecord]
) -> None:
    scanner = Finder()
    manager.begin_day([planned(scanner)])
    assert state_of(manager) == "setup_complete"
    manager.scan_before_open()
    assert scanner.calls == ["setup"]
    assert manager.next_at == OPEN + timedelta(minutes=5)
    go_to(manager, host, 4)
    assert scanner.calls == ["setup"]
    go_to(manager, host, 5)
    assert state_of(manager) == "scan_complete"
    go_to(manager, host, 10)
    assert scanner.calls == ["setup", "scan", "scan", "teardown"]
    assert state_of(manager) == "teardown_complete"
    done: Any = manager.next_at
    assert done is None
    assert [record.at for record in records] == [OPEN + timedelta(minutes=n) for n in (5, 10)]
    assert records[0].result.execution_time_ms > 0


def test_the_clock_stands_still_while_a_backtest_scans(manager: ScannerManager, host: Host) -> None:
    scanner = Finder()
    manager.begin_day([planned(scanner)])
    go_to(manager, host, 5)
    assert scanner.times == [OPEN + timedelta(minutes=5)]
    assert host.time_manager.get_current_time() == OPEN + timedelta(minutes=5)


def test_promotion_is_idempotent_and_tells_what_was_new(
    manager: ScannerManager, host: Host, records: list[ScanRecord]
) -> None:
    manager.begin_day([planned(Finder(wanted=["B", "A", "B"]))])
    go_to(manager, host, 5)
    go_to(manager, host, 10)
    assert [line for line in host.log if line.startswith("promote")] == ["promote B find", "promote A find"] * 2
    assert [record.result.promoted for record in records] == [["B", "A"], []]


def test_what_was_neither_promoted_nor_locked_is_removed_after_the_last_scan(
    manager: ScannerManager, host: Host
) -> None:
    host.locked.add("C")
    manager.begin_day([planned(Finder())])
    go_to(manager, host, 5)
    assert not [line for line in host.log if line.startswith("discard")]
    go_to(manager, host, 10)
    assert [line for line in host.log if line.startswith("discard")] == ["discard A"]


def test_a_scanner_of_the_morning_is_torn_down_at_once(manager: ScannerManager, host: Host) -> None:
    scanner = Finder()
    manager.begin_day([planned(scanner, (), pre=True)])
    manager.scan_before_open()
    assert scanner.calls == ["setup", "scan", "teardown"]
    assert state_of(manager) == "teardown_complete"
    assert host.log[-2:] == ["discard A", "discard C"]


def test_a_symbol_that_another_scanner_still_looks_at_stays(manager: ScannerManager, host: Host) -> None:
    early, late = Finder(["A", "B"], ["B"]), Finder(["A", "D"], [])
    manager.begin_day([planned(early, (), pre=True, name="early"), planned(late, (5,), name="late")])
    manager.scan_before_open()
    assert not [line for line in host.log if line.startswith("discard")]
    go_to(manager, host, 5)
    assert [line for line in host.log if line.startswith("discard")] == ["discard A", "discard D"]


@pytest.mark.parametrize(
    ("where", "calls", "words"),
    [
        ("setup", ["setup"], "setup: RuntimeError: broken setup"),
        ("scan", ["setup"], "RuntimeError: broken scan"),
        ("answer", ["setup"], "TypeError: scan returned list, not ScanResult"),
        ("teardown", ["setup", "scan", "scan"], "teardown: RuntimeError: broken teardown"),
    ],
)
def test_an_error_ends_that_scanner_alone(
    manager: ScannerManager, host: Host, where: str, calls: list[str], words: str
) -> None:
    broken, sound = Broken(where), Finder(["X"], ["X"])
    manager.begin_day([planned(broken, name="broken"), planned(sound, name="sound")])
    go_to(manager, host, 5)
    go_to(manager, host, 10)
    rows = {row["name"]: row for row in manager.status()}
    assert rows["broken"]["state"] == "error"
    assert words in rows["broken"]["error"]
    assert broken.calls == calls
    assert rows["sound"]["state"] == "teardown_complete"
    assert rows["sound"]["scans"] == 2
    assert "discard A" in host.log


def test_a_scanner_that_gives_up_in_setup_never_scans(manager: ScannerManager, host: Host) -> None:
    scanner = Finder()
    scanner.gives_up = True
    manager.begin_day([planned(scanner)])
    go_to(manager, host, 5)
    assert scanner.calls == ["setup"]
    assert state_of(manager) == "error"


def test_a_symbol_whose_bars_cannot_be_had_is_told_and_the_others_are_promoted(
    manager: ScannerManager, host: Host, records: list[ScanRecord]
) -> None:
    host.refused.add("A")
    manager.begin_day([planned(Finder(wanted=["A", "B"]))])
    go_to(manager, host, 5)
    assert records[0].result.error == "A: There are no bars of A."
    assert records[0].result.promoted == ["B"]
    assert state_of(manager) == "scan_complete"


def test_scans_that_passed_together_are_one(manager: ScannerManager, host: Host, records: list[ScanRecord]) -> None:
    manager.begin_day([planned(Finder(), (5, 10, 15, 20))])
    go_to(manager, host, 16)
    assert len(records) == 1
    assert manager.status()[0]["missed"] == 2


def test_a_day_that_ends_early_tears_down_what_is_left(manager: ScannerManager, host: Host) -> None:
    scanner = Finder()
    manager.begin_day([planned(scanner)])
    manager.end_day()
    assert scanner.calls == ["setup", "teardown"]
    assert manager.status() == []
    manager.end_day()
    assert scanner.calls == ["setup", "teardown"]


def test_an_observer_that_fails_does_not_hurt_the_scan(host: Host) -> None:
    def fail(record: ScanRecord) -> None:
        raise RuntimeError("no database")

    manager = ScannerManager(host, fail, in_background=False)
    manager.begin_day([planned(Finder())])
    go_to(manager, host, 5)
    assert state_of(manager) == "scan_complete"


# -- in the background


class Slow(Finder):
    """Scans until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.release = threading.Event(), threading.Event()
        self.threads: list[str] = []

    def scan(self, context: ScanContext) -> ScanResult:
        self.threads.append(threading.current_thread().name)
        self.entered.set()
        assert self.release.wait(WAIT_S)
        return super().scan(context)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it did not come to that")


def test_a_live_scan_runs_beside_the_session_and_an_overlapping_one_is_left_out(
    host: Host, records: list[ScanRecord]
) -> None:
    manager, scanner = ScannerManager(host, records.append, in_background=True), Slow()
    manager.begin_day([planned(scanner, (5, 10, 15))])
    go_to(manager, host, 5)
    assert scanner.entered.wait(WAIT_S)
    assert state_of(manager) == "scanning"
    go_to(manager, host, 10)
    assert [record.result.skipped for record in records] == [True]
    assert not host.full
    scanner.release.set()

    def taken() -> bool:
        manager.run_due(host.time_manager.get_current_time())
        return len(records) == 2

    until(taken)
    assert host.full == {"B"}
    assert (scanner.threads, manager.status()[0]["skipped"]) == (["scan-find"], 1)
    assert threading.current_thread().name != "scan-find"


def test_what_a_live_scan_wants_is_promoted_on_the_sessions_own_thread(host: Host, records: list[ScanRecord]) -> None:
    promoted_on: list[str] = []
    plain = host.promote

    def promote(symbol: str, by: str) -> bool:
        promoted_on.append(threading.current_thread().name)
        return plain(symbol, by)

    host.promote = promote  # type: ignore[method-assign]  # to see which thread it is
    manager = ScannerManager(host, records.append, in_background=True)
    manager.begin_day([planned(Finder(), (5,))])
    go_to(manager, host, 5)

    def taken() -> bool:
        manager.run_due(host.time_manager.get_current_time())
        return bool(records)

    until(taken)
    assert promoted_on == [threading.current_thread().name]


def test_a_scan_that_does_not_end_is_told_and_left_behind(
    host: Host, records: list[ScanRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading.market.scanners.manager.JOIN_S", 0.05)
    manager, scanner = ScannerManager(host, records.append, in_background=True), Slow()
    manager.begin_day([planned(scanner)])
    go_to(manager, host, 5)
    assert scanner.entered.wait(WAIT_S)
    manager.end_day()
    assert manager.status() == []
    scanner.release.set()


# -- states


def test_every_state_leads_to_an_end_and_ends_lead_nowhere() -> None:
    ends = {ScannerState.TEARDOWN_COMPLETE, ScannerState.ERROR}
    assert {state for state, following in NEXT.items() if not following} == ends
    for state in ScannerState:
        seen: set[ScannerState] = set()
        ahead = {state}
        while ahead - seen:
            seen |= ahead
            ahead = set(itertools.chain.from_iterable(NEXT[one] for one in ahead))
        assert seen & ends


def test_a_step_that_the_table_does_not_have_is_refused(manager: ScannerManager) -> None:
    manager.begin_day([planned(Finder())])
    with pytest.raises(ConflictError, match="it cannot be scan_complete"):
        manager._runs[0].move(ScannerState.SCAN_COMPLETE)
