"""Orders as a desk has them: hung strategies, families, unanswered orders, exits whose position is gone."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from ib_async import Stock

from strategies.models import AuditEntry
from tests.e2e.engine.harness import Rig, position, until
from trading.brokers import order_book
from trading.engine import risk_desk
from trading.models import Order, OrderEvent
from trading.orders import settling
from trading.orders.inflight import in_flight

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

SPY = Stock("SPY", "SMART", "USD")

HANGS = """
import pathlib
from ib_async import Stock
from strategies.base import BaseStrategy

class HangingStrategy(BaseStrategy):
    async def initialize_strategy(self):
        pass
    async def run_strategy(self):
        for number in range(4):
            await self.place_order(Stock("SPY", "SMART", "USD"), 1 + number, "LMT", algo=False, limit=1.0)
        while not pathlib.Path({leave!r}).exists():
            pass
        await self.until_stopped()
"""


def states(owner: str) -> list[str]:
    return list(Order.objects.filter(owner=owner).order_by("id").values_list("state", flat=True))


def bracket(rig: Rig, strategy: Any, **prices: float) -> list[Any]:
    async def _place() -> list[Any]:
        tickets = await strategy.place_bracket(SPY, 10, **prices)
        assert await tickets[0].wait_done(15.0), tickets
        return list(tickets)

    found: list[Any] = rig.on_loop(strategy, _place())
    return found


def test_while_true_in_a_strategy_stops_neither_a_cancel_nor_its_confirmation(rig: Rig) -> None:
    leave = rig.folder / "leave"
    rig.strategy("HANGS", HANGS.format(leave=str(leave)))
    engine = rig.engine()
    try:
        engine.start_strategy("HANGS")
        placed = Order.objects.filter(owner="HANGS").exclude(order_id=None)
        until(lambda: placed.count() == 4, what="four orders were handed over")
        began = time.monotonic()
        report = engine.trade_manager.cancel_owner("HANGS")
        took_s = time.monotonic() - began
        until(lambda: states("HANGS") == ["cancelled"] * 4, what="confirmed while the loop still hangs")
        assert (len(report.asked), report.errors) == (4, {})
        assert took_s <= 0.25, took_s
        assert OrderEvent.objects.filter(message__contains="past the strategy's loop").count() == 4
    finally:
        leave.touch()


def test_exits_sleep_until_the_entry_fills_and_one_ends_the_other(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    entry, profit, stop = bracket(rig, alpha, take_profit=1.0, stop_loss=0.5)
    parent = Order.objects.get(order_ref=entry.order_ref)
    children = Order.objects.filter(parent_ref=entry.order_ref).order_by("id")
    assert [row.order_ref for row in children] == [profit.order_ref, stop.order_ref]
    assert parent.created_at == children[0].created_at == children[1].created_at, "one transaction"
    # A profit taker below the market fills at once and takes the stop with it.
    until(lambda: states("ALPHA") == ["filled", "filled", "cancelled"], what="profit taken, stop gone")
    assert position("ALPHA", "SPY") == 0


def test_exit_goes_when_its_position_is_closed_otherwise(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    bracket(rig, alpha, take_profit=9000.0, stop_loss=0.5)
    until(lambda: states("ALPHA") == ["filled", "accepted", "accepted"], what="the exits work")
    rig.trade(alpha, "SPY", -4)
    until(
        lambda: set(Order.objects.exclude(parent_ref="").values_list("quantity", flat=True)) == {Decimal(6)},
        what="exits shrink with the position",
    )
    rig.trade(alpha, "SPY", -6)
    until(lambda: states("ALPHA")[1:3] == ["cancelled", "cancelled"], what="exits are cancelled")
    assert position("ALPHA", "SPY") == 0


def test_orders_that_cancel_each_other_reach_ib_as_one_group_of_ours(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")

    async def _place() -> list[Any]:
        resting = {"contract": SPY, "quantity": 1, "order_type": "LMT", "limit": 1.0}
        return list(await alpha.place_oco([resting, {**resting, "quantity": 2}]))

    tickets = rig.on_loop(alpha, _place())
    until(lambda: states("ALPHA") == ["accepted", "accepted"])
    groups = set(Order.objects.filter(owner="ALPHA").values_list("oca_group", flat=True))
    assert {ticket.trade.order.ocaGroup for ticket in tickets} == groups
    assert [group.startswith("ALPHA/oca/") for group in groups] == [True]
    engine.trade_manager.cancel_owner("ALPHA")
    until(lambda: states("ALPHA") == ["cancelled", "cancelled"])


def test_family_of_which_one_member_is_refused_is_not_sent(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    with pytest.raises(Exception, match="per cent"):
        bracket(rig, alpha, trail_percent=150.0)
    assert states("ALPHA") == []


def test_order_that_ib_swallows_is_unknown_asked_about_and_settled_by_an_operator(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "ACKNOWLEDGED_WITHIN", timedelta(seconds=1))
    monkeypatch.setattr(order_book, "ACKNOWLEDGED_WITHIN_S", 1.0)
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    swallow(alpha)
    ticket = rig.place(alpha, "SPY", 1, limit=1.0)
    until(lambda: states("ALPHA") == ["unknown"], what="doubted")
    early = rig.do("settle_order", order_ref=ticket.order_ref, reason="not in TWS")
    assert early.error_code == "in_flight", "its answer may still come"
    in_flight_over(ticket.order_ref)
    command = rig.do("settle_order", order_ref=ticket.order_ref, reason="not in TWS")
    # IB's complete answers may have said it first.
    assert command.state == "done" or command.error_code == "order_done", command.error
    until(lambda: states("ALPHA") == ["cancelled"])
    until(lambda: ticket.is_done, what="the strategy's ticket hears of it")
    assert AuditEntry.objects.filter(action="command.settle_order", subject=ticket.order_ref).exists()
    assert not rig.broker_executions(), "it was never sent again"


def swallow(strategy: Any) -> None:
    """Lose the next order between ib_async and the socket."""
    conn = strategy.ib.client.conn
    original = conn.sendMsg

    def _lose(message: bytes) -> None:
        if message[4:6] == b"3\0":
            conn.sendMsg = original
            return
        original(message)

    conn.sendMsg = _lose


def in_flight_over(order_ref: str) -> None:
    """Have the half minute pass in which an answer may still come."""
    with in_flight._lock:
        in_flight._members.pop(order_ref, None)


# -- orders by command


def place(rig: Rig, **order: Any) -> str:
    args: dict[str, Any] = {"contract": {"symbol": "SPY"}, "order": {"side": "BUY", "quantity": "3", **order}}
    return str(rig.result(rig.do("place_order", **args))["order_ref"])


def test_order_placed_by_command_is_changed_and_cancelled(rig: Rig) -> None:
    rig.engine()
    ref = place(rig, order_type="LMT", limit="1.00")
    until(lambda: states("Discretionary") == ["accepted"])
    rig.result(rig.do("modify_order", order_ref=ref, quantity="2", limit="1.25"))
    until(lambda: Order.objects.filter(quantity=2, limit_price="1.25").exists(), what="IB took the change")
    rig.result(rig.do("cancel_order", order_ref=ref))
    until(lambda: states("Discretionary") == ["cancelled"])


def test_order_for_a_strategy_is_its_own_but_not_its_codes(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    rig.start(engine, "ALPHA")
    order = {"side": "BUY", "quantity": "3"}
    args: dict[str, Any] = {"contract": {"symbol": "SPY"}, "order": order, "strategy": "ALPHA"}
    rig.result(rig.do("place_order", **args))
    until(lambda: position("ALPHA", "SPY") == 3)
    assert Order.objects.get().code_hash == ""


def test_bracket_by_command_is_one_family(rig: Rig) -> None:
    rig.engine()
    entry = {"side": "BUY", "quantity": "5", "order_type": "LMT", "limit": "1"}
    command = rig.do(
        "place_bracket",
        contract={"symbol": "SPY"},
        order=entry,
        take_profit={"limit": "2"},
        stop_loss={"stop": "0.5"},
    )
    refs = rig.result(command)["order_refs"]
    until(lambda: states("Discretionary") == ["accepted"] * 3)
    rows = Order.objects.order_by("id").values_list("order_type", "side", "parent_ref")
    assert list(rows) == [("LMT", "BUY", ""), ("LMT", "SELL", refs[0]), ("STP", "SELL", refs[0])]


def test_preview_says_what_would_be_sent_what_stands_against_it_and_what_it_would_cost(rig: Rig) -> None:
    rig.engine()
    order = {"side": "BUY", "quantity": "3", "order_type": "MKT"}
    wish: dict[str, Any] = {"contract": {"symbol": "SPY"}, "order": order}
    found = rig.result(rig.do("preview_order", **wish))
    assert (found["order"]["symbol"], found["order"]["quantity"], found["denied"]) == ("SPY", "3", None)
    assert found["what_if"]["known"] is True
    assert Decimal(found["what_if"]["init_margin_change"]) > 0
    assert not Order.objects.exists()
    rig.engines[0].gate.set_ledger_trouble(True)
    assert rig.result(rig.do("preview_order", **wish))["denied"]["code"] == "ledger_trouble"


def test_instruments_are_found_by_symbol(rig: Rig) -> None:
    rig.engine()
    found = rig.result(rig.do("find_contracts", pattern="SPY"))["contracts"]
    assert found[0]["symbol"] == "SPY"
    assert found[0]["con_id"]


def test_strategies_that_want_the_same_contract_in_one_instant_have_its_price_asked_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred questions would use the budget up, and orders would be denied for want of a price."""
    monkeypatch.setattr(risk_desk, "LINE_WAIT_S", 0.0)
    symbols = [f"S{number}" for number in range(6)]
    for symbol in symbols:
        rig.strategy(symbol, weight="0.05", connection="shared")
    engine = rig.engine()
    strategies = [rig.start(engine, symbol) for symbol in symbols]
    asked: list[str] = []
    handle = rig.gateway.server.hub.handle

    def _noted(session: Any, fields: list[str]) -> None:
        if fields[0] == "1" and session.client_id:
            asked.append(fields[0])
        handle(session, fields)

    rig.gateway.call(lambda: setattr(rig.gateway.server.hub, "handle", _noted))
    contract = Stock("AMD", "SMART", "USD")
    begun = [
        asyncio.run_coroutine_threadsafe(one.place_order(contract, 1, "LMT", algo=False, limit=1.0), one._loop)
        for one in strategies
    ]
    assert all(one.result(20.0).order_ref for one in begun)
    assert asked == ["1"]
