"""Strategies that share a connection: orders, fills and ends reach the right one and only it."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
from ib_async import Stock

from tests.e2e.engine.harness import Rig, position, run_state, until
from trading.engine.session import MasterSession
from trading.models import Order

pytestmark = pytest.mark.e2e

LISTENER = """
import asyncio
from strategies.base import BaseStrategy

class ListenerStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.fills, self.statuses, self.reconnects = [], [], 0
        self.ticks = 0
        self.stray = asyncio.create_task(self.forget_me())
    async def forget_me(self):
        while True:
            self.ticks += 1
            await asyncio.sleep(0.01)
    def on_fill(self, trade, fill):
        self.fills.append(fill.execution.orderRef)
    def on_status_change(self, trade, status):
        self.statuses.append(trade.order.orderRef)
    async def on_reconnected(self):
        self.reconnects += 1
    async def run_strategy(self):
        await self.until_stopped()
"""


def shared(rig: Rig, *symbols: str, source: str = LISTENER) -> None:
    for symbol in symbols:
        rig.strategy(symbol, source, weight="0.05", connection="shared")


def test_two_on_one_connection_trade_each_for_itself_and_hear_only_their_own(rig: Rig) -> None:
    shared(rig, "ALPHA", "BETA")
    engine = rig.engine()
    alpha, beta = rig.start(engine, "ALPHA"), rig.start(engine, "BETA")
    assert alpha.client_id == beta.client_id
    assert alpha.ib is beta.ib
    assert engine.pool.in_use == {alpha.client_id}
    rig.trade(alpha, "SPY", 3)
    rig.trade(beta, "SPY", -2)
    rig.trade(beta, "QQQ", 4)
    until(lambda: [position(*one) for one in (("ALPHA", "SPY"), ("BETA", "SPY"), ("BETA", "QQQ"))] == [3, -2, 4])
    until(lambda: alpha.fills and beta.fills)
    for strategy in (alpha, beta):
        assert {ref.partition("/")[0] for ref in strategy.fills + strategy.statuses} == {strategy.symbol}
    rig.assert_books_equal_broker()
    ids = list(Order.objects.filter(client_id=alpha.client_id).values_list("order_id", flat=True))
    assert len(ids) == len(set(ids)) == 3


def test_cancels_and_changes_from_outside_go_through_the_owner(rig: Rig) -> None:
    shared(rig, "ALPHA", "BETA")
    engine = rig.engine()
    alpha, beta = rig.start(engine, "ALPHA"), rig.start(engine, "BETA")
    mine, theirs = (rig.place(strategy, "SPY", 1, limit=1.0) for strategy in (alpha, beta))
    engine.trade_manager.modify_order(theirs.order_ref, limit=2)
    until(lambda: Order.objects.get(order_ref=theirs.order_ref).limit_price == Decimal(2), what="the change")
    assert rig.do("cancel_order", order_ref=theirs.order_ref).state == "done"
    until(lambda: Order.objects.get(order_ref=theirs.order_ref).state == "cancelled")
    assert [ticket.order_ref for ticket in alpha.open_orders()] == [mine.order_ref]
    assert beta.open_orders() == []


def test_the_end_of_one_leaves_the_other_the_line_and_nothing_of_itself(rig: Rig) -> None:
    shared(rig, "ALPHA", "BETA")
    engine = rig.engine()
    alpha, beta = rig.start(engine, "ALPHA"), rig.start(engine, "BETA")
    until(lambda: alpha.ticks)
    left = rig.place(alpha, "SPY", 1, limit=1.0)
    assert rig.do("stop_strategy", symbol="ALPHA").state == "done"
    until(lambda: alpha.stray.done(), what="its own tasks ended with it")
    assert beta.is_connected
    rig.trade(beta, "SPY", 2)
    assert alpha.fills == []
    assert rig.do("cancel_order", order_ref=left.order_ref).state == "done"  # through whoever is left on the line
    until(lambda: Order.objects.get(order_ref=left.order_ref).state == "cancelled")
    assert rig.do("stop_strategy", symbol="BETA").state == "done"
    until(lambda: engine.pool.in_use == frozenset(), what="the id is free with the last one")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mats-router")]


def test_a_member_that_breaks_or_exits_ends_alone(rig: Rig) -> None:
    shared(rig, "GOOD")
    shared(rig, "BAD", source=LISTENER.replace("await self.until_stopped()", "import sys; sys.exit(7)"))
    shared(rig, "WORSE", source=LISTENER.replace("await self.until_stopped()", "raise ValueError('broken')"))
    engine = rig.engine()
    good = rig.start(engine, "GOOD")
    for symbol in ("BAD", "WORSE"):
        rig.do("start_strategy", symbol=symbol)
        until(lambda symbol=symbol: run_state(symbol) == "failed")  # type: ignore[misc]
    rig.trade(good, "SPY", 1)
    assert engine.pool.in_use == {good.client_id}


def test_a_lost_line_comes_back_for_all_and_fills_meanwhile_find_their_owners(rig: Rig) -> None:
    shared(rig, "ALPHA", "BETA", "GAMMA")
    engine = rig.engine()
    members = [rig.start(engine, symbol) for symbol in ("ALPHA", "BETA", "GAMMA")]
    tickets = [rig.trade(member, "SPY", 1) for member in members]
    rig.stop_server()
    until(lambda: not members[0].is_connected)
    for number, (member, ticket) in enumerate(zip(members, tickets, strict=True), 1):
        rig.inject("SPY", number, order_ref=ticket.order_ref, client_id=member.client_id, publish=False)
    rig.start_server()
    until(lambda: all(member.reconnects for member in members), 30, "each subscribes again")
    assert engine.gate.wait_open(20)
    until(lambda: [position(member.symbol, "SPY") for member in members] == [2, 3, 4])
    rig.assert_books_equal_broker()
    assert [member.reconnects for member in members] == [1, 1, 1]


def test_members_that_come_back_with_their_line_ask_where_their_orders_stand_once_together(rig: Rig) -> None:
    """IB counts messages: four times the same questions on each line would keep the comparison of the books waiting."""
    shared(rig, "ALPHA", "BETA", "GAMMA")
    engine = rig.engine()
    members = [rig.start(engine, symbol) for symbol in ("ALPHA", "BETA", "GAMMA")]
    tickets = [rig.place(member, "SPY", 1, limit=1.0) for member in members]
    until(lambda: {ticket.state for ticket in tickets} == {"accepted"})
    asked: list[str] = []
    handle = rig.gateway.server.hub.handle

    def _noted(session: Any, fields: list[str]) -> None:
        if session.client_id == members[0].client_id:
            asked.append(fields[0])
        handle(session, fields)

    rig.gateway.call(lambda: setattr(rig.gateway.server.hub, "handle", _noted))
    rig.gateway.fault(f"drop client={members[0].client_id}")
    until(lambda: all(member.reconnects for member in members), 30, "all are back")
    until(lambda: "99" in asked, 15, "completed orders were asked for")
    rig.gateway.fault(f"fill 1 ref={tickets[1].order_ref} price=1")
    until(lambda: position("BETA", "SPY") == 1)
    assert [asked.count(kind) for kind in ("5", "7", "99")] == [1, 1, 1]
    assert [ticket.state for ticket in tickets] == ["accepted", "filled", "accepted"]


def test_a_full_router_gets_a_second_one_and_no_connection_left_is_refused(
    rig: Rig, mats_settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared(rig, "A", "B", "C", "D")
    rig.strategy("OWN")
    engine = rig.engine()
    monkeypatch.setattr(engine.lines.routers, "_size", 2)
    monkeypatch.setattr(engine.pool, "budget", 2)
    ids = [rig.start(engine, symbol).client_id for symbol in ("A", "B", "C")]
    assert ids == [1, 1, 2]
    refused = rig.do("start_strategy", symbol="OWN")
    assert (refused.state, refused.error_code) == ("failed", "client_limit")
    assert "share a connection" in refused.error
    assert rig.start(engine, "D").client_id == 2
    rows = {row["client_id"]: row for row in engine.connection_rows()}
    assert (rows[1]["role"], rows[1]["members"]) == ("router", ["A", "B"])


def test_a_router_waits_for_the_gateway_with_its_members(rig: Rig) -> None:
    shared(rig, "ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    assert isinstance(engine.session, MasterSession)
    rig.stop_server()
    until(lambda: not alpha.is_connected)
    assert rig.do("stop_strategy", symbol="ALPHA").state == "done"
    until(lambda: engine.pool.in_use == frozenset())
    rig.start_server()
    assert engine.gate.wait_open(30)
    alpha = rig.start(engine, "ALPHA")
    contract = Stock("SPY", "SMART", "USD")
    assert rig.on_loop(alpha, alpha.get_position(contract)) == 0
