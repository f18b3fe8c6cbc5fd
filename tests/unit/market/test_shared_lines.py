"""Shared lines: one for each instrument, never closed under a listener, refused aloud when there are too many."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from eventkit import Event
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from ib_async import Contract, RealTimeBar, RealTimeBarList

from strategies.exceptions import TransientError
from trading.ib.pacing import Budget
from trading.market.shared_lines import Listening, SharedLines

START = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)


class Wire:
    """What shared lines use of ib_async's IB: real events, requests that are noted."""

    def __init__(self) -> None:
        self.disconnectedEvent, self.errorEvent = Event("disconnectedEvent"), Event("errorEvent")
        self.connected = True
        self.open: dict[int, RealTimeBarList] = {}
        self.asked: list[tuple[str, str]] = []
        self.next_id = 0

    def isConnected(self) -> bool:
        return self.connected

    def reqRealTimeBars(self, contract: Contract, size: int, what: str, use_rth: bool) -> RealTimeBarList:
        bars = RealTimeBarList()  # type: ignore[no-untyped-call]  # ib_async leaves it untyped
        self.next_id += 1
        bars.reqId, bars.contract = self.next_id, contract
        self.open[self.next_id] = bars
        self.asked.append((contract.symbol, what))
        return bars

    def cancelRealTimeBars(self, bars: RealTimeBarList) -> None:
        del self.open[bars.reqId]

    def lose(self) -> None:
        self.connected = False
        self.open.clear()
        self.disconnectedEvent.emit()

    def bar(self, symbol: str, number: int = 0) -> None:
        for bars in list(self.open.values()):
            if bars.contract.symbol == symbol:
                bars.append(RealTimeBar(START + timedelta(seconds=5 * number), -1, 1.0, 1.0, 1.0, 1.0, 5.0, 1.0, 1))
                bars.updateEvent.emit(bars, True)

    @property
    def symbols(self) -> list[str]:
        return sorted(bars.contract.symbol for bars in self.open.values())


def stock(symbol: str) -> Contract:
    return Contract(conId=sum(map(ord, symbol)), symbol=symbol, secType="STK", exchange="SMART", currency="USD")


class Rig:
    """Lines over a wire; work for the loop is done at once, or kept until ``turn`` when ``waits``."""

    def __init__(self, most: int = 100, *, waits: bool = False) -> None:
        self.budget = Budget(lines=most)
        self.pending: list[Callable[[], None]] = []
        self.waits = waits
        self.later: list[Callable[[], None]] = []
        self.lines = SharedLines(self._run, self.budget, later=lambda _, work: self.later.append(work))
        self.wire = Wire()
        self.heard: dict[str, list[Any]] = {}
        self.failed: list[str] = []

    def _run(self, work: Callable[[], None]) -> None:
        if self.waits:
            self.pending.append(work)
        else:
            work()

    def turn(self) -> None:
        while self.pending:
            self.pending.pop(0)()

    def attach(self) -> None:
        self.lines.attach(self.wire)  # type: ignore[arg-type]

    def listen(self, symbol: str, who: str = "") -> Listening:
        heard = self.heard.setdefault(who or symbol, [])
        return self.lines.listen(stock(symbol), heard.append, self.failed.append)


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.attach()
    return made


def test_two_listeners_of_one_instrument_share_one_line(rig: Rig) -> None:
    rig.listen("SPY", "a")
    rig.listen("SPY", "b")
    rig.wire.bar("SPY")
    assert rig.wire.asked == [("SPY", "TRADES")]
    assert [len(rig.heard[who]) for who in ("a", "b")] == [1, 1]
    assert rig.lines.users(stock("SPY").conId) == 2


def test_bars_reach_only_those_who_listen_to_them(rig: Rig) -> None:
    rig.listen("SPY")
    rig.listen("QQQ")
    rig.wire.bar("QQQ")
    assert (rig.heard["SPY"], len(rig.heard["QQQ"])) == ([], 1)


def test_pairs_have_no_trades_and_are_asked_for_by_their_middle(rig: Rig) -> None:
    rig.lines.listen(Contract(conId=1, symbol="EUR", secType="CASH"), lambda bar: None, rig.failed.append)
    assert rig.wire.asked == [("EUR", "MIDPOINT")]


def test_dropped_listener_hears_nothing_more_and_the_others_go_on(rig: Rig) -> None:
    first = rig.listen("SPY", "a")
    rig.listen("SPY", "b")
    rig.lines.drop(first)
    rig.lines.drop(first)
    rig.wire.bar("SPY")
    assert [len(rig.heard[who]) for who in ("a", "b")] == [0, 1]
    assert rig.wire.symbols == ["SPY"]


def test_line_without_listeners_is_kept_and_taken_up_again(rig: Rig) -> None:
    rig.lines.drop(rig.listen("SPY"))
    assert rig.wire.symbols == ["SPY"]
    rig.listen("SPY")
    assert rig.wire.asked == [("SPY", "TRADES")], "it was there still"


def test_longest_unused_line_makes_room_and_a_used_one_never(rig: Rig) -> None:
    rig = Rig(most=3)
    rig.attach()
    rig.listen("USED")
    old, newer = rig.listen("OLD"), rig.listen("NEWER")
    rig.lines.drop(newer)
    rig.lines.drop(old)
    rig.listen("NEXT")
    assert rig.wire.symbols == ["NEXT", "OLD", "USED"], "NEWER was unused for longer"
    rig.listen("LAST")
    assert rig.wire.symbols == ["LAST", "NEXT", "USED"]


def test_no_room_left_is_refused_with_a_sentence() -> None:
    rig = Rig(most=2)
    rig.attach()
    rig.listen("SPY")
    rig.listen("QQQ")
    with pytest.raises(TransientError, match="No market data line is left for IWM") as caught:
        rig.listen("IWM")
    assert caught.value.code == "line_limit"
    assert "MATS_IB_MARKET_LINES" in caught.value.message
    rig.listen("SPY", "another")
    assert rig.wire.symbols == ["QQQ", "SPY"]


def test_lines_of_others_count_too() -> None:
    rig = Rig(most=3)
    rig.attach()
    rig.budget.open_line(7, 1)
    rig.budget.open_line(7, 2)
    rig.listen("SPY")
    with pytest.raises(TransientError):
        rig.listen("QQQ")
    rig.budget.close_lines(7)
    rig.listen("QQQ")


def test_wishes_that_wait_for_the_loop_count_as_lines() -> None:
    rig = Rig(most=2, waits=True)
    rig.attach()
    rig.listen("SPY")
    rig.listen("QQQ")
    with pytest.raises(TransientError):
        rig.listen("IWM")
    rig.turn()
    assert rig.wire.symbols == ["QQQ", "SPY"]


def test_listening_before_the_connection_opens_the_line_once_it_is_there() -> None:
    rig = Rig()
    rig.listen("SPY")
    assert rig.wire.asked == []
    rig.attach()
    rig.wire.bar("SPY")
    assert len(rig.heard["SPY"]) == 1


def test_reconnect_asks_again_for_what_is_listened_to_and_forgets_the_rest(rig: Rig) -> None:
    rig.listen("SPY")
    rig.lines.drop(rig.listen("QQQ"))
    rig.wire.lose()
    rig.wire.connected = True
    rig.attach()
    assert rig.wire.symbols == ["SPY"]
    rig.wire.bar("SPY")
    assert len(rig.heard["SPY"]) == 1


def test_data_that_ib_lost_are_asked_for_again(rig: Rig) -> None:
    rig.listen("SPY")
    rig.wire.errorEvent.emit(-1, 1101, "Connectivity restored, data lost", None)
    assert rig.wire.asked == [("SPY", "TRADES")] * 2
    assert rig.wire.symbols == ["SPY"], "and the old one is cancelled"
    rig.wire.bar("SPY")
    assert len(rig.heard["SPY"]) == 1


def test_silent_line_is_asked_for_again_under_a_new_id_and_its_listeners_go_on(rig: Rig) -> None:
    spy = rig.listen("SPY", "a")
    rig.listen("QQQ", "b")
    before = {con_id: stream.req_ids for con_id, stream in rig.lines.current().items()}
    rig.lines.renew(spy.con_id)
    after = {con_id: stream.req_ids for con_id, stream in rig.lines.current().items()}
    assert after.keys() == before.keys()
    assert [con_id for con_id in after if after[con_id] != before[con_id]] == [spy.con_id]
    assert after[spy.con_id] == {rig.lines.request_id(spy.con_id)}
    assert rig.wire.symbols == ["QQQ", "SPY"]
    rig.wire.bar("SPY")
    assert len(rig.heard["a"]) == 1
    rig.lines.drop(spy)
    assert spy.con_id not in rig.lines.current(), "nobody waits for it"
    assert rig.lines.request_id(1) == 0


def test_line_that_is_asked_for_too_soon_comes_later_and_nothing_new_is_asked_meanwhile(rig: Rig) -> None:
    rig.listen("SPY")
    too_soon = "Invalid Real-time Query:Historical data request pacing violation"
    rig.wire.errorEvent.emit(rig.wire.next_id, 420, too_soon, rig.wire.open.pop(rig.wire.next_id).contract)
    for symbol in ("QQQ", "IWM"):
        rig.listen(symbol)
    assert (rig.failed, rig.wire.asked, len(rig.later)) == ([], [("SPY", "TRADES")], 1)
    assert rig.lines.current() == {}
    [again] = rig.later
    again()
    rig.wire.bar("SPY")
    assert (rig.wire.symbols, len(rig.heard["SPY"])) == (["IWM", "QQQ", "SPY"], 1)
    assert rig.budget.figures(0.0)["lines"]["used"] == 3


def test_new_connection_does_not_wait_for_what_was_too_soon_on_the_old_one(rig: Rig) -> None:
    rig.listen("SPY")
    rig.wire.errorEvent.emit(rig.wire.next_id, 420, "Historical data request pacing violation", stock("SPY"))
    rig.wire.open.clear()
    rig.wire.lose()
    rig.wire.connected = True
    rig.attach()
    assert rig.wire.symbols == ["SPY"]


def test_refused_line_is_told_to_its_listeners_and_can_be_asked_for_anew(rig: Rig) -> None:
    rig.listen("SPY", "a")
    rig.listen("QQQ")
    rig.wire.errorEvent.emit(1, 420, "Invalid Real-time Query", None)
    assert rig.failed == ["IB sends no bars of SPY: 420 Invalid Real-time Query"]
    assert rig.budget.figures(0.0)["lines"]["used"] == 1
    rig.listen("SPY", "a")
    assert rig.wire.asked[-1] == ("SPY", "TRADES")


def test_errors_of_other_requests_and_mere_warnings_change_nothing(rig: Rig) -> None:
    rig.listen("SPY")
    rig.wire.errorEvent.emit(99, 420, "of somebody else", None)
    rig.wire.errorEvent.emit(1, 2104, "Market data farm connection is OK", None)
    rig.wire.bar("SPY")
    assert (rig.failed, len(rig.heard["SPY"])) == ([], 1)


def test_memory_does_not_grow_with_the_bars(rig: Rig) -> None:
    rig.listen("SPY")
    for number in range(100):
        rig.wire.bar("SPY", number)
    assert [len(bars) for bars in rig.wire.open.values()] == [1]


class LinesMachine(RuleBasedStateMachine):
    """Whatever happens: at most so many lines, one for each instrument, and every listener has one."""

    MOST = 3
    SYMBOLS = ("A", "B", "C", "D", "E")

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(most=self.MOST)
        self.rig.attach()
        self.held: dict[str, list[Listening]] = {symbol: [] for symbol in self.SYMBOLS}

    @rule(symbol=st.sampled_from(SYMBOLS))
    def listen(self, symbol: str) -> None:
        used = {name for name, held in self.held.items() if held}
        if symbol not in used and len(used) == self.MOST:
            with pytest.raises(TransientError):
                self.rig.listen(symbol)
        else:
            self.held[symbol].append(self.rig.listen(symbol))

    @rule(symbol=st.sampled_from(SYMBOLS))
    def drop(self, symbol: str) -> None:
        if self.held[symbol]:
            self.rig.lines.drop(self.held[symbol].pop())

    @rule()
    def reconnect(self) -> None:
        self.rig.wire.lose()
        self.rig.wire.connected = True
        self.rig.budget.close_lines(0)
        self.rig.attach()

    @rule()
    def lose_data(self) -> None:
        self.rig.wire.errorEvent.emit(-1, 1101, "lost", None)

    @invariant()
    def one_line_each_and_never_too_many(self) -> None:
        assert len(self.rig.wire.symbols) == len(set(self.rig.wire.symbols)) <= self.MOST
        assert {symbol for symbol, held in self.held.items() if held} <= set(self.rig.wire.symbols)

    @invariant()
    def users_are_counted(self) -> None:
        for symbol, held in self.held.items():
            assert self.rig.lines.users(stock(symbol).conId) == len(held)


LinesMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestLines = LinesMachine.TestCase
