"""The books against the broker: every way in which they can come apart, over the wire of the paper gateway."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError

from portfolio.adjustments import approve_adjustment, book_adjustment, propose_adjustment
from portfolio.models import (
    Account,
    Break,
    BrokerHolding,
    CashBalance,
    Execution,
    ParkedReport,
    Position,
)
from portfolio.services import discard_parked
from strategies.exceptions import OrderDeniedError
from tests.e2e.engine.harness import DISCRETIONARY, Rig, position, until
from trading.engine import broker_state, reconciler
from trading.engine.cash_check import CheckTimes
from trading.engine.manager import StrategyManager
from trading.engine.reconciler import OVERLAP
from trading.gateway import protocol_messages as messages
from trading.gateway import protocol_responses as respond
from trading.gateway import wire_hub
from trading.gateway.model import ExecutionFilter
from trading.models import Alert, EngineEvent
from trading.orders.db_threads import in_db_thread

pytestmark = pytest.mark.e2e

QUICK = CheckTimes(compare_every_s=0.2, replay_every_s=60.0, look_pause_s=0.02, quiet_s=0.3, commission_alarm_s=0.3)


def started(rig: Rig, times: CheckTimes = QUICK) -> StrategyManager:
    """An engine that checks often, with orders flowing."""
    engine = StrategyManager()
    engine.autostart = False
    engine.stop_grace_s = 5.0
    engine.session.times = times
    rig.engines.append(engine)
    engine.start()
    assert engine.gate.wait_open(20.0), engine.state_message
    return engine


def happen(rig: Rig, make: Callable[[Any], Any], *, publish: bool = True) -> None:
    """Have the broker do something by itself and tell it on the wire."""

    def _push() -> None:
        events = make(rig.gateway.venue)
        if publish and events:
            rig.gateway.server.publish(events)

    rig.gateway.call(_push)


def con_id(rig: Rig, symbol: str = "SPY") -> int:
    """The contract's id at the gateway."""
    return rig.gateway.call(lambda: next(iter(rig.gateway.venue.search(symbol))).contract.con_id)


def broker_holds(symbol: str = "SPY") -> Decimal:
    """What the books know of IB's position."""
    row = BrokerHolding.objects.filter(instrument__symbol=symbol).first()
    return row.quantity if row is not None else Decimal(0)


def account_id() -> str:
    """The ledger's account."""
    return Account.objects.get().account_id


def in_books(engine: StrategyManager, work: Callable[[], Any]) -> Any:
    """Have the message thread do something."""
    return engine.message_queue.submit(work, "test").result(10)


def opened(kind: str) -> Break | None:
    """The open break of that kind."""
    return Break.objects.filter(kind=kind, state="open").first()


def causes(row: Break) -> set[str]:
    """The kinds of causes that a break names."""
    return {item["kind"] for item in row.cause["items"]}


def alert(key: str) -> Alert | None:
    """The open alert of a key."""
    return Alert.objects.filter(key=key, cleared_at=None).first()


def asked_since(rig: Rig) -> list[datetime | None]:
    """From when on the master has executions repeated from now on; None is the whole day."""
    venue, found = rig.gateway.venue, []
    original = venue.executions

    def _noted(wanted: ExecutionFilter) -> Any:
        if wanted.client_id in (0, None):
            found.append(wanted.since)
        return original(wanted)

    rig.gateway.call(lambda: setattr(venue, "executions", _noted))
    return found


def compared(rig: Rig) -> dict[str, Any]:
    """A complete check on demand in which cash was compared."""

    def _check() -> dict[str, Any] | None:
        result = rig.result(rig.do("reconcile"))
        return result if not result["cash_waiting"] else None

    found: dict[str, Any] = until(_check, what="cash was compared")
    return found


def test_check_stores_what_ib_holds_and_when_it_said_so(rig: Rig) -> None:
    started(rig)
    rig.inject("SPY", 3)
    until(lambda: broker_holds() == 3 and position(DISCRETIONARY, "SPY") == 3)
    assert compared(rig)["cash_breaks"] == 0
    account = Account.objects.get()
    assert account.positions_at is not None
    assert account.reconciled_at is not None
    rig.inject("SPY", 3, client_id=0)
    happen(rig, lambda venue: venue.move_position(con_id_of(venue), Decimal(-6)))
    until(lambda: not BrokerHolding.objects.exists(), what="the row of a flat position is gone")


def con_id_of(venue: Any) -> int:
    """SPY's id, asked on the gateway's own loop."""
    found: int = next(iter(venue.search("SPY"))).contract.con_id
    return found


def test_deposit_at_the_broker_opens_a_cash_break_that_locks_nothing_and_clears_by_itself(rig: Rig) -> None:
    engine = started(rig)
    assert compared(rig)["cash_breaks"] == 0
    happen(rig, lambda venue: venue.book_cash("USD", Decimal("1234.56")))
    row = until(lambda: opened("cash"), what="cash break")
    assert (row.currency, row.ib_quantity - row.ledger_quantity) == ("USD", Decimal("1234.56"))
    assert causes(row) == {"unexplained"}
    found = alert("break:cash:USD")
    assert found is not None
    assert "1234.56" in found.text
    assert engine.gate.locked_instruments == frozenset()
    told = EngineEvent.objects.filter(kind="break").latest("id").payload
    assert (told["kind"], told["currency"], told["state"]) == ("cash", "USD", "open")
    happen(rig, lambda venue: venue.book_cash("USD", Decimal("-1234.56")))
    until(lambda: opened("cash") is None, what="the break clears")
    assert alert("break:cash:USD") is None


def test_cash_in_a_currency_that_the_books_never_had_is_a_break(rig: Rig) -> None:
    started(rig)
    happen(rig, lambda venue: venue.book_cash("EUR", Decimal(50)))
    row = until(lambda: opened("cash"), what="cash break")
    assert (row.currency, row.ib_quantity, row.ledger_quantity) == ("EUR", 50, 0)


def test_cash_break_clears_when_what_explains_it_is_booked(rig: Rig) -> None:
    engine = started(rig)
    happen(rig, lambda venue: venue.book_cash("USD", Decimal(500)))
    assert causes(until(lambda: opened("cash"), what="cash break")) == {"unexplained"}
    details = {"owner": DISCRETIONARY, "currency": "USD", "amount": "500"}
    words: dict[str, Any] = {"actor": "op", "source": "page"}
    proposed = in_books(
        engine,
        lambda: propose_adjustment(account_id(), "deposit", details, **words, now=datetime.now(UTC)),
    )
    rig.do("reconcile")
    row = opened("cash")
    assert row is not None
    assert [item["ids"] for item in row.cause["items"]] == [[str(proposed.adjustment_id)]]
    in_books(engine, lambda: approve_adjustment(proposed.adjustment_id, **words, now=datetime.now(UTC)))
    until(lambda: opened("cash") is None, what="the break clears")
    assert CashBalance.objects.get(owner=DISCRETIONARY, currency="USD").amount == 1_000_500


def test_split_that_is_booked_ends_the_break_and_unlocks(rig: Rig) -> None:
    engine = started(rig)
    rig.inject("SPY", 10)
    until(lambda: position(DISCRETIONARY, "SPY") == 10)
    happen(rig, lambda venue: venue.move_position(con_id_of(venue), Decimal(10)))
    until(lambda: opened("position"), what="position break")
    details = {"con_id": con_id(rig), "numerator": 2, "denominator": 1}
    in_books(
        engine,
        lambda: book_adjustment(account_id(), "split", details, actor="op", source="page", now=datetime.now(UTC)),
    )
    until(lambda: opened("position") is None and not engine.gate.locked_instruments, what="the break clears")
    assert position(DISCRETIONARY, "SPY") == 20
    assert compared(rig)["cash_breaks"] == 0


def test_execution_repeated_with_other_content_is_alerted_and_the_books_stay(rig: Rig) -> None:
    engine = started(rig)
    rig.inject("SPY", 1)
    until(lambda: position(DISCRETIONARY, "SPY") == 1)
    booked = Execution.objects.get()
    told: list[Any] = []
    engine.session._capture.observers.append(told.append)
    try:
        rig.do("reconcile")
    finally:
        engine.session._capture.observers.remove(told.append)
    [heard] = [message for message in told if message["type"] == "fill"]
    other = {**heard, "fill": replace(heard["fill"], price=heard["fill"].price + 1)}
    engine.message_queue.put(other)  # type: ignore[arg-type]  # a message of the same kind
    until(lambda: alert(f"contradiction:{booked.exec_id}"), what="alert")
    assert Execution.objects.get().price == booked.price


def test_split_at_the_broker_locks_the_instrument_and_names_the_ratio(rig: Rig) -> None:
    engine = started(rig)
    rig.inject("SPY", 10)
    until(lambda: position(DISCRETIONARY, "SPY") == 10)
    happen(rig, lambda venue: venue.move_position(con_id_of(venue), Decimal(30)))
    row = until(lambda: opened("position"), what="position break")
    assert (row.ib_quantity, row.ledger_quantity) == (40, 10)
    split = next(item for item in row.cause["items"] if item["kind"] == "split_ratio")
    assert split["ids"] == [str(row.instrument_id), "4", "1"]
    with pytest.raises(OrderDeniedError):
        engine.gate.check(con_id(rig))
    assert position(DISCRETIONARY, "SPY") == 10  # shown, never corrected
    happen(rig, lambda venue: venue.move_position(con_id_of(venue), Decimal(-30)))
    until(lambda: opened("position") is None, what="the break clears")
    engine.gate.check(con_id(rig))
    assert alert(f"break:{con_id(rig)}") is None


def test_manual_trade_goes_to_discretionary_and_leaves_no_break(rig: Rig) -> None:
    started(rig)
    rig.inject("QQQ", 1)
    happen(rig, lambda venue: venue.trade_by_hand(con_id_of(venue), Decimal(7)))
    until(lambda: position(DISCRETIONARY, "SPY") == 7)
    execution = Execution.objects.get(instrument__symbol="SPY")
    assert (execution.order_ref, execution.client_id) == ("", 0)
    result = compared(rig)
    assert (result["breaks"], result["cash_breaks"], result["missing"]) == (0, 0, 0)
    happen(rig, lambda venue: venue.move_position(con_id_of(venue), Decimal(1)))
    assert "manual_trade" in causes(until(lambda: opened("position")))


def test_execution_that_was_never_told_comes_with_the_replay_and_no_break_remains(rig: Rig) -> None:
    started(rig)
    rig.inject("SPY", 4, publish=False)
    until(lambda: position(DISCRETIONARY, "SPY") == 4, what="the replay brings it")
    assert compared(rig)["breaks"] == 0
    rig.assert_books_equal_broker()


def test_check_by_the_clock_asks_for_what_came_since_the_last_one_and_finds_what_was_never_told(rig: Rig) -> None:
    asked = asked_since(rig)
    started(rig, replace(QUICK, compare_every_s=0.1, replay_every_s=0.2))
    until(lambda: len(asked) >= 2, what="a check by the clock")
    first, second, *_ = asked
    assert first is None
    assert second is not None, "only the first one is of the whole day"
    assert datetime.now(UTC) - second < OVERLAP + timedelta(minutes=1)
    rig.inject("SPY", 4, publish=False)
    until(lambda: position(DISCRETIONARY, "SPY") == 4, what="a replay brings it")
    rig.assert_books_equal_broker()


def test_difference_that_a_short_replay_shows_is_looked_into_over_the_whole_day(rig: Rig) -> None:
    started(rig, replace(QUICK, compare_every_s=0.1, replay_every_s=0.2))
    rig.inject("SPY", 2)
    until(lambda: position(DISCRETIONARY, "SPY") == 2)
    asked = asked_since(rig)
    happen(rig, lambda venue: venue.forget_executions())
    until(lambda: alert("executions:differ"))
    assert None in asked


def test_trading_without_a_pause_asks_for_no_replay_and_opens_no_break(rig: Rig) -> None:
    """Calm is what it is for people: a busy machine makes pauses of 0.3 s by itself, in which cash counts again."""
    engine = started(rig, dataclasses.replace(QUICK, quiet_s=10.0, commission_alarm_s=60.0))
    rig.inject("SPY", 1)
    until(lambda: position(DISCRETIONARY, "SPY") == 1)
    ended = threading.Event()

    def _trade() -> None:
        while not ended.is_set():
            rig.inject("SPY", 1)

    trader = threading.Thread(target=_trade)
    trader.start()
    try:
        start = engine.message_queue.figures().duplicates
        until(lambda: position(DISCRETIONARY, "SPY") > 300, what="three hundred fills while checks run")
        assert engine.message_queue.figures().duplicates == start, "no execution was replayed meanwhile"
    finally:
        ended.set()
        trader.join()
    assert not Break.objects.exists()
    rig.assert_books_equal_broker()


def test_executions_that_ib_does_not_report_any_more_are_alerted(rig: Rig) -> None:
    started(rig)
    rig.inject("SPY", 2)
    until(lambda: position(DISCRETIONARY, "SPY") == 2)
    assert compared(rig)["unconfirmed"] == 0
    happen(rig, lambda venue: venue.forget_executions())
    assert compared(rig)["unconfirmed"] == 2
    found = alert("executions:differ")
    assert found is not None
    assert Execution.objects.all()[0].exec_id in found.text
    assert Position.objects.get().quantity == 2


def test_correction_that_came_while_the_engine_was_down_is_booked_after_the_restart(rig: Rig) -> None:
    engine = started(rig)
    rig.inject("SPY", 1)
    until(lambda: position(DISCRETIONARY, "SPY") == 1)
    until(lambda: not Execution.objects.filter(commission=None).exists())
    [first] = Execution.objects.values_list("exec_id", flat=True)
    engine.cleanup(1.0)
    happen(rig, lambda venue: venue.correct(first, price=Decimal("123.45")))
    started(rig)
    until(lambda: Execution.objects.filter(superseded=False).get().price == Decimal("123.45"))
    result = compared(rig)
    assert (result["breaks"], result["cash_breaks"], result["missing"], result["unconfirmed"]) == (0, 0, 0, 0)


def test_commissions_that_do_not_come_hold_cash_back_and_are_alerted_until_they_do(rig: Rig) -> None:
    started(rig)
    happen(rig, lambda venue: venue.withhold_commissions(True))
    rig.inject("SPY", 2)
    until(lambda: position(DISCRETIONARY, "SPY") == 2)
    found = until(lambda: alert("commissions:unknown"), what="alarm")
    assert Execution.objects.all()[0].exec_id in found.text
    assert opened("cash") is None
    happen(rig, lambda venue: venue.withhold_commissions(False))
    until(lambda: alert("commissions:unknown") is None, what="the alarm ends")
    assert compared(rig)["cash_breaks"] == 0


def test_report_that_cannot_be_booked_is_kept_named_by_the_break_and_settled_by_an_operator(rig: Rig) -> None:
    engine = started(rig)
    rig.inject("SPY", 5)
    until(lambda: position(DISCRETIONARY, "SPY") == 5)
    first = Execution.objects.order_by("id")[0].exec_id
    # A stock at a price below zero cannot be booked, so the two more that it says are missing.
    happen(rig, lambda venue: venue.correct(first, quantity=Decimal(3), price=Decimal(-1)))
    row = until(lambda: opened("position"), what="position break")
    parked = ParkedReport.objects.get()
    assert (parked.code, parked.state, parked.con_id) == ("bad_price", "waiting", row.instrument_id)
    assert parked.payload["exec_id"] == first[:-1] + "2"
    assert "parked_report" in causes(row)
    assert alert(f"parked:{parked.key}") is not None
    rig.inject("SPY", 3)
    until(lambda: position(DISCRETIONARY, "SPY") == 8, what="its neighbours are booked")
    before = engine.writer.figures.parked
    rig.do("reconcile")
    assert ParkedReport.objects.get().times > 1
    until(lambda: engine.writer.figures.parked > before)
    engine.message_queue.submit(
        lambda: discard_parked(parked.pk, actor="op", reason="busted", now=datetime.now(UTC)), "discard"
    ).result(10)
    rig.do("reconcile")
    assert alert(f"parked:{parked.key}") is None
    assert ParkedReport.objects.get().state == "discarded"


def test_parking_does_not_ask_for_one_check_after_the_other(rig: Rig) -> None:
    started(rig, CheckTimes(compare_every_s=60.0, replay_every_s=60.0, look_pause_s=0.02, quiet_s=0.3))
    rig.inject("SPY", 1)
    until(lambda: position(DISCRETIONARY, "SPY") == 1)
    first = Execution.objects.get().exec_id
    happen(rig, lambda venue: venue.correct(first, quantity=Decimal(3), price=Decimal(-1)))
    until(lambda: opened("position"), what="the one check that the first parking asks for")
    rig.do("reconcile")  # ends after the check that runs
    asked: list[int] = []
    with noted(messages.RequestExecutions, asked), pytest.raises(AssertionError):
        until(lambda: asked, 4.0)  # twice the pause between two checks
    assert ParkedReport.objects.get().state == "waiting"


@contextmanager
def answered(kind: type[messages.Request], handler: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """Have the gateway answer a kind of request in the test's own way."""
    table, original = wire_hub._HANDLERS, wire_hub._HANDLERS[kind]
    table[kind] = handler
    try:
        yield
    finally:
        table[kind] = original


@contextmanager
def noted(kind: type[messages.Request], asked: list[int]) -> Iterator[None]:
    """Note every request of a kind that reaches the gateway."""
    original = wire_hub._HANDLERS[kind]

    def _noted(context: Any, session: Any, request: Any) -> None:
        asked.append(1)
        original(context, session, request)

    with answered(kind, _noted):
        yield


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are late soon."""
    monkeypatch.setattr(broker_state, "ANSWER_S", 0.3)


@pytest.mark.usefixtures("_impatient")
def test_answer_about_positions_that_never_ends_changes_nothing(rig: Rig) -> None:
    engine = started(rig)
    rig.inject("SPY", 6)
    until(lambda: broker_holds() == 6)
    asked: list[int] = []
    with answered(messages.RequestPositions, lambda context, session, request: asked.append(1)):
        command = rig.do("reconcile")
        assert (command.state, command.error_code) == ("failed", "no_answer")
        until(lambda: len(asked) > 2, what="asked again and again")
        assert opened("position") is None
        assert broker_holds() == 6
        assert engine.gate.locked_instruments == frozenset()
    until(lambda: rig.do("reconcile").state == "done", what="it recovers")


def test_answer_of_another_account_changes_nothing(rig: Rig) -> None:
    engine = started(rig)
    rig.inject("SPY", 6)
    until(lambda: broker_holds() == 6)

    def _foreign(context: Any, session: Any, request: Any) -> None:
        rows = [replace(row, account="DU9999999") for row in context.venue.positions(context.now())]
        session.send(*(respond.position(row) for row in rows), respond.position_end())

    with answered(messages.RequestPositions, _foreign):
        command = rig.do("reconcile")
        assert (command.state, command.error_code) == ("failed", "other_account")
        assert opened("position") is None
        assert broker_holds() == 6
        assert engine.gate.locked_instruments == frozenset()
    until(lambda: rig.do("reconcile").state == "done", what="it recovers")


def test_account_download_without_cash_opens_no_break(rig: Rig) -> None:
    started(rig)
    assert compared(rig)["cash_breaks"] == 0

    def _without_rows(context: Any, session: Any, request: Any) -> None:
        if request.subscribe:
            session.send(respond.account_download_end(request.account))

    with answered(messages.RequestAccountUpdates, _without_rows):
        result = rig.result(rig.do("reconcile"))
        assert "cash" in result["cash_waiting"]
        assert opened("cash") is None
    assert compared(rig)["cash_breaks"] == 0


def fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> threading.Event:
    """Have the comparison of the day raise; the event tells that it did."""
    failed = threading.Event()

    def _raise(*_: Any) -> Any:
        failed.set()
        raise error

    monkeypatch.setattr(reconciler, "look_at_day", _raise)
    return failed


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(OperationalError("the server went away"), "cannot be read", id="database"),
        pytest.param(RuntimeError("nobody thought of this"), "failed", id="unforeseen"),
    ],
)
def test_master_session_outlives_an_error_in_the_middle_of_a_check(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    engine = started(rig)
    with monkeypatch.context() as patch:
        failed = fails(patch, error)
        engine.session.request_check()
        assert failed.wait(10)
        until(lambda: told in engine.state_message, what="the state says why")
    until(lambda: engine.gate.is_open and engine.state == "running", timeout_s=30, what="orders flow again")
    rig.inject("SPY", 3)
    until(lambda: position(DISCRETIONARY, "SPY") == 3, what="the fill after the error is booked")


def test_a_fill_between_the_look_and_its_record_opens_no_break(rig: Rig) -> None:
    """The answer of IB is older than the fill: the instrument would be locked, and people called, for nothing."""
    rig.strategy("ALPHA")
    engine = started(rig)
    ticket = rig.trade(rig.start(engine, "ALPHA"), "SPY", 2)
    reconciler = engine.session._reconciler
    job, injected = reconciler._job, list[str]()

    async def _late(work: Any, name: str) -> Any:
        if name == "record_breaks" and not injected:
            injected.append(name)
            await asyncio.to_thread(rig.inject, "SPY", 3, ticket.order_ref, 1)
            while await in_db_thread(position, "ALPHA", "SPY") < 5:
                await asyncio.sleep(0.01)
        return await job(work, name)

    reconciler._job = _late  # type: ignore[method-assign]
    result = engine.session.reconcile()
    assert injected
    assert result["breaks"] == 0, result
    assert not Break.objects.exists()
    assert engine.gate.locked_instruments == frozenset()
    rig.assert_books_equal_broker()
