"""The line to IB under every trouble that it can have: nothing lost, nothing doubled, no order while it is not whole.

Rows of the fault model that stand elsewhere are named in ``rows.py``.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from ib_async import Stock

from portfolio.models import Execution
from strategies.exceptions import OrderDeniedError
from tests.e2e.engine.harness import Rig, position, until
from tests.e2e.faults.truth import assert_books_hold, assert_sent_once, fault, figure, open_again, started
from trading.gateway.protocol_responses import message
from trading.gateway.wire_pacing import Pacing
from trading.ib import connection
from trading.models import Alert, EngineEvent, Order

pytestmark = pytest.mark.e2e
LISTENS = """
from ib_async import Stock
from strategies.base import BaseStrategy

class ListeningStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.reconnects = 0
        self.subscribe_bars(await self.qualify(Stock("SPY", "SMART", "USD")))
    async def run_strategy(self):
        await self.until_stopped()
    async def on_reconnected(self):
        self.reconnects += 1
"""


def subscriptions(rig: Rig) -> dict[int, list[int]]:
    """What each client follows: contract ids of ticks and bars."""
    return dict(
        figure(
            rig,
            lambda gateway: {
                number: sorted(each.con_id for each in (*session.ticks.values(), *session.bars.values()))
                for number, session in gateway.server.hub.context.sessions.items()
                if session.ticks or session.bars
            },
        )
    )


def test_a_half_open_line_is_noticed_and_replaced(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PROBE_AFTER_S", 0.5)
    monkeypatch.setattr(connection, "PROBE_TIMEOUT_S", 2.0)
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    ref = rig.trade(alpha, "SPY", 1).order_ref
    fault(rig, "hole")
    rig.inject("SPY", 6, ref, 1)
    until(lambda: not engine.gate.is_open)
    open_again(engine)
    until(lambda: alpha.is_connected and alpha.reconnects == 1)
    assert_books_hold(rig, engine)
    assert position("ALPHA", "SPY") == 7


def test_fills_around_1100_are_booked_and_orders_wait_for_1102(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    ref = rig.trade(alpha, "SPY", 1).order_ref
    rig.inject("SPY", 25, ref, 1)
    fault(rig, "say 1100")
    rig.inject("SPY", 25, ref, 1)
    until(lambda: not engine.gate.is_open)
    with pytest.raises(OrderDeniedError):
        rig.trade(alpha, "SPY", 1)
    until(lambda: position("ALPHA", "SPY") == 51)
    fault(rig, "say 1100", "say 2110", "say 1102")
    open_again(engine)
    rig.trade(alpha, "SPY", -1)
    assert_books_hold(rig, engine)


def test_what_was_lost_before_1102_is_found_by_asking(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    ref = rig.trade(rig.start(engine, "ALPHA"), "SPY", 1).order_ref
    fault(rig, "outage 500ms fills=lost")
    rig.inject("SPY", 4, ref, 1)
    until(lambda: not engine.gate.is_open)
    open_again(engine)
    assert_books_hold(rig, engine)
    assert position("ALPHA", "SPY") == 5
    assert rig.gateway.fired("lose execDetails count=all for=0.5") >= 8  # the owner's, the drop copy's, replays


def test_reports_that_come_late_after_an_outage_count_once(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    ref = rig.trade(rig.start(engine, "ALPHA"), "SPY", 1).order_ref
    fault(rig, "outage 300ms fills=late")
    rig.inject("SPY", 4, ref, 1)
    open_again(engine)
    until(lambda: position("ALPHA", "SPY") == 5)
    assert_books_hold(rig, engine)


def test_market_data_lost_with_1101_is_asked_for_again_by_everyone(rig: Rig) -> None:
    rig.strategy("ALPHA", LISTENS)
    engine = started(rig)
    rig.trade(rig.start(engine, "ALPHA"), "SPY", 1)
    before = until(lambda: len(found := subscriptions(rig)) == 2 and found, what="engine and strategy follow SPY")
    fault(rig, "outage 300ms back=1101")
    assert not subscriptions(rig)
    open_again(engine)
    until(lambda: subscriptions(rig) == before, what="all follow what they followed")
    assert_books_hold(rig, engine)


def test_a_night_of_restarts_and_refusals_ends_with_exact_books_and_no_order_sent_twice(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    ref = rig.trade(alpha, "SPY", 3).order_ref
    for line in ("outage 100ms", "say 2103", "restart 200ms", "say 2104", "drop", "refuse 200ms", "drop", "say 10225"):
        fault(rig, line)
        rig.inject("SPY", 2, ref, 1)
    until(lambda: alpha.is_connected and engine.gate.is_open)
    rig.trade(alpha, "SPY", -3)
    assert_books_hold(rig, engine)
    assert position("ALPHA", "SPY") == 16
    assert_sent_once(rig, injected={ref})


def test_refused_logins_are_told_and_the_engine_comes_back_by_itself_when_they_end(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    fault(rig, "refuse 4h", "drop")
    until(lambda: not engine.gate.is_open and "Next try" in engine.state_message)
    rig.inject("SPY", 2)
    fault(rig, "clear")
    open_again(engine)
    until(lambda: alpha.is_connected)
    assert_books_hold(rig, engine)


def test_a_reboot_that_rolls_ids_back_right_after_a_send_reuses_none(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    for turn, moment in enumerate(("placeOrder", "openOrder", "execDetails"), 1):
        rig.trade(alpha, "SPY", turn)
        fault(rig, f"when {moment} reboot 4")
        rig.place(alpha, "SPY", 10 + turn, 1000.0)
        until(lambda: alpha.reconnects == turn and alpha.is_connected, what=f"{moment}")  # noqa: B023 - now
        open_again(engine)
    rig.trade(alpha, "SPY", -2)
    until(lambda: not Order.objects.filter(order_id=None).exists())
    used = list(Order.objects.values_list("client_id", "order_id"))
    assert len(used) == len(set(used)) == 7
    assert_books_hold(rig, engine)
    assert_sent_once(rig)
    until(lambda: set(Order.objects.values_list("state", flat=True)) == {"filled"})
    assert position("ALPHA", "SPY") == 1 + 2 + 3 + 11 + 12 + 13 - 2


def test_a_report_repeated_a_thousand_times_counts_once(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    fault(rig, "dup 1000 execDetails count=2", "dup 20 commissionReport count=all", "dup 20 orderStatus count=all")
    rig.trade(alpha, "SPY", 5)
    rig.inject("SPY", 3)
    assert_books_hold(rig, engine)
    assert Execution.objects.count() == len(rig.broker_executions())


def test_a_client_id_that_another_program_holds_is_waited_for_and_not_taken(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    fault(rig, f"squat {alpha.client_id}", f"drop client={alpha.client_id}")
    told = until(
        lambda: [
            event.payload
            for event in EngineEvent.objects.filter(kind="connection")
            if event.payload.get("client_id") == alpha.client_id and "in use" in event.payload.get("message", "")
        ],
        what="the page says who is in the way",
    )
    assert not told[-1]["connected"]
    with pytest.raises(OrderDeniedError):
        rig.trade(alpha, "SPY", 1)
    fault(rig, "clear")
    until(lambda: alpha.is_connected)
    rig.trade(alpha, "SPY", 1)
    assert_books_hold(rig, engine)


def test_junk_on_the_line_ends_in_a_new_line_or_a_new_look(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    ref = rig.trade(alpha, "SPY", 1).order_ref
    cases = product(("frame", "length", "bytes 3000"), (0, 1))
    for turn, (kind, client) in enumerate(cases, 1):
        fault(rig, f"junk {kind} client={client}")
        rig.inject("SPY", 3, ref, 1)
        held = 1 + 3 * turn
        until(lambda: position("ALPHA", "SPY") == held, what=f"fills behind {kind} for {client}")  # noqa: B023 - now
        until(lambda: engine.gate.is_open and alpha.is_connected)
    rig.trade(alpha, "SPY", -19)
    assert_books_hold(rig, engine)


def test_what_a_strategys_line_could_not_read_is_asked_for_again_and_alerted(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")
    rig.trade(alpha, "SPY", 1)
    asked = figure(rig, lambda gateway: gateway.server.faults.wire)
    fault(rig, "when execDetailsEnd say 2104")  # tells that the day was asked for
    nonsense = message("3", "7", "Filled", "much")
    figure(rig, lambda gateway: [peer.write_raw(nonsense) for peer in gateway.server.peers_of(alpha.client_id)])
    until(lambda: Alert.objects.filter(key__startswith="unreadable:", cleared_at=None).exists())
    until(lambda: asked.fired["when execDetailsEnd say 2104"] == 1)
    open_again(engine)
    assert_books_hold(rig, engine)


def test_a_gateway_that_rejects_what_is_too_fast_gets_nothing_too_fast(rig: Rig) -> None:
    """One connection's pace; that of all together is the engine's."""
    figure(rig, lambda gateway: _reject(gateway.server))
    rig.strategy("ALPHA")
    engine = started(rig)
    alpha = rig.start(engine, "ALPHA")

    async def _burst() -> list[Any]:
        spy = Stock("SPY", "SMART", "USD")
        tickets = [await alpha.place_order(spy, 1, "LMT", algo=False, limit=10.0 + n / 100) for n in range(17)]
        for n in range(60):
            await alpha.broker.modify_order(tickets[n % 17].order_ref, limit=Decimal(11) + Decimal(n) / 100)
        for ticket in tickets:
            await alpha.broker.cancel_order(ticket.order_ref)
        return tickets

    tickets = rig.on_loop(alpha, _burst(), 30.0)
    until(lambda: all(ticket.is_done for ticket in tickets), 30.0)
    until(lambda: not Order.objects.exclude(state="cancelled").exists(), 30.0)
    assert not figure(rig, lambda gateway: sum(peer._pacer.breaks for peer in gateway.server.peers))
    assert_sent_once(rig)
    assert position("ALPHA", "SPY") == Decimal(0)


def _reject(server: Any) -> None:
    server.pacing = Pacing.REJECT
