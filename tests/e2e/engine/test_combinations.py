"""Combinations through the engine: the legs are booked, the combination is not, whatever happens to one of them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from ib_async import Contract as IbContract

from portfolio.assignments import assign_execution
from portfolio.models import Break, Execution, ParkedReport, Position
from portfolio.verification import verify_all
from strategies.combos import combination
from tests.e2e.engine.harness import DISCRETIONARY, Rig, until
from tests.e2e.engine.test_derivatives import SPY_ID, call_in_the_money
from tests.e2e.engine.test_reconciliation import account_id, compared, con_id, happen, in_books, started
from trading.gateway.model import ExecutionFilter
from trading.models import Order

pytestmark = pytest.mark.e2e


def test_legs_are_booked_once_through_replay_correction_assignment_and_a_restart(rig: Rig) -> None:
    rig.strategy("ALPHA", weight="0.5")
    rig.strategy("BETA", weight="0.2")
    engine = started(rig)
    call = rig.gateway.call(lambda: call_in_the_money(rig.gateway.venue))
    alpha = rig.start(engine, "ALPHA")
    stock = IbContract(conId=con_id(rig), symbol="SPY", secType="STK", exchange="SMART", currency="USD")
    option = IbContract(conId=call.con_id, symbol="SPY", secType="OPT", exchange="SMART", currency="USD")

    async def _buy_write() -> Any:
        ticket = await alpha.place_order(combination([(stock, 100), (option, -1)]), 2, algo=False)
        assert await ticket.wait_done(15.0), ticket
        return ticket

    ticket = rig.on_loop(alpha, _buy_write(), 30.0)
    said = rig.gateway.call(lambda: rig.gateway.venue.executions(ExecutionFilter()))
    legs = {one.exec_id: one for one, _ in said if one.contract.sec_type != "BAG"}
    assert len(legs) < len(said)  # the combination's own execution is among them
    assert {len(exec_id.split(".")) for exec_id in legs} == {5}
    until(lambda: set(Execution.objects.values_list("exec_id", flat=True)) == set(legs), what="the legs are booked")
    assert owned("ALPHA") == {SPY_ID: Decimal(200), call.con_id: Decimal(-2)}
    order = Order.objects.get(order_ref=ticket.order_ref)
    assert (order.state, order.filled) == ("filled", Decimal(2))
    combined = [one for one, _ in said if one.contract.sec_type == "BAG"]
    paid = sum((one.quantity * one.price for one in combined), Decimal(0)) / 2
    assert order.average_price is not None
    assert abs(order.average_price - paid) < Decimal("0.011")
    assert compared(rig)["cash_breaks"] == 0  # a replay: nothing is booked twice
    assert Execution.objects.count() == len(legs)

    sold = next(one for one in legs.values() if one.contract.con_id == call.con_id)
    happen(rig, lambda v: v.correct(sold.exec_id, price=sold.price + 1))
    until(lambda: Execution.objects.filter(exec_id=sold.exec_id, superseded=True).exists(), what="the leg is corrected")
    bought = next(one for one in legs.values() if one.contract.con_id == SPY_ID)
    in_books(
        engine,
        lambda: assign_execution(
            account_id(), bought.exec_id, "BETA", quantity=Decimal(30), from_owner="ALPHA", actor="op", source="page",
            reason="half of it", now=datetime.now(UTC),
        ),
    )  # fmt: skip
    happen(rig, lambda v: v.correct(bought.exec_id, price=bought.price + 1))
    until(lambda: Execution.objects.filter(exec_id=bought.exec_id, superseded=True).exists(), what="so is the other")
    engine.cleanup(1.0)
    started(rig)
    until(lambda: compared(rig)["cash_breaks"] == 0, what="cash agrees")
    assert owned("ALPHA") == {SPY_ID: Decimal(170), call.con_id: Decimal(-2)}
    assert owned("BETA") == {SPY_ID: Decimal(30)}
    assert owned(DISCRETIONARY) == {}
    assert not Break.objects.filter(state="open").exists()
    assert not ParkedReport.objects.exists()
    wrong = [one for one in verify_all(arctic=False).checks if one.found]
    assert wrong == []


def owned(owner: str) -> dict[int, Decimal]:
    """What an owner holds by contract."""
    rows = Position.objects.filter(owner=owner).exclude(quantity=0)
    return dict(rows.values_list("instrument_id", "quantity"))
