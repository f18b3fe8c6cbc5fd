"""Futures and options through the engine: the books follow the gateway's cash, expiry and exercise to the cent."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from portfolio.adjustments import book_adjustment
from portfolio.models import Break, Position
from tests.e2e.engine.harness import DISCRETIONARY, Rig, until
from tests.e2e.engine.test_reconciliation import account_id, compared, happen, in_books, started
from trading.gateway.model import Contract, PositionChanged

pytestmark = pytest.mark.e2e
SPY_ID = 756733
MES = Contract(symbol="MES", sec_type="CONTFUT", exchange="CME")


def held(con_id: int) -> Decimal:
    """What the books hold of a contract."""
    row = Position.objects.filter(owner=DISCRETIONARY, instrument_id=con_id).first()
    return row.quantity if row is not None else Decimal(0)


def call_in_the_money(venue: Any) -> Contract:
    """A listed SPY call that is well in the money."""
    chain = venue.option_chains(SPY_ID, "SMART")[0]
    asked = Contract(
        symbol="SPY", sec_type="OPT", exchange="SMART", last_trade_date=chain.expiries[5],
        strike=float(chain.strikes[2]), right="C",
    )  # fmt: skip
    found: Contract = venue.resolve(asked)[0].contract
    return found


def test_the_books_follow_a_settled_future_and_an_exercised_option(rig: Rig) -> None:
    engine = started(rig)
    venue = rig.gateway.venue
    future = rig.gateway.call(lambda: venue.resolve(MES)[0].contract.con_id)
    call = rig.gateway.call(lambda: call_in_the_money(venue))
    happen(rig, lambda v: v.inject_fills(future, 2, "", 0))
    happen(rig, lambda v: v.inject_fills(call.con_id, 3, "", 0))
    until(lambda: held(future) == 2 and held(call.con_id) == 3, what="both are in the books")
    assert compared(rig)["cash_breaks"] == 0

    price = rig.gateway.call(lambda: venue._market.mark(future, venue._begun()))

    def settle(v: Any) -> list[Any]:
        v._state.settle(future, price)
        return [PositionChanged(future)]

    happen(rig, settle)
    happen(
        rig,
        lambda v: v.exercise_option(call, exercise=True, quantity=Decimal(3), override=False, now=v._begun()),
    )
    until(lambda: Break.objects.filter(kind="position", state="open").count() == 3, what="positions moved alone")

    def book(kind: str, **details: Any) -> None:
        in_books(
            engine,
            lambda: book_adjustment(account_id(), kind, details, actor="op", source="page", now=datetime.now(UTC)),
        )

    book("expiry", con_id=future, settlement_price=str(price))
    book("exercise", con_id=call.con_id, underlying_con_id=SPY_ID)
    until(lambda: not Break.objects.filter(state="open").exists(), what="the breaks clear")
    assert (held(future), held(call.con_id), held(SPY_ID)) == (Decimal(0), Decimal(0), Decimal(300))
    assert compared(rig)["cash_breaks"] == 0
