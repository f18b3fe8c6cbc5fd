"""Halts and kill levels against what the gateway really got, also with a hung strategy and a locked database."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from portfolio.models import Position
from strategies.exceptions import OrderDeniedError
from strategies.models import AuditEntry
from tests.e2e.engine.harness import Rig, position, until
from trading import risk_control
from trading.engine.standing import read_revision
from trading.ib import mapping
from trading.models import Alert, Order
from trading.orders.trading_state import TradingState
from trading.risk_models import TradingControl
from trading.risk_services import set_limit

pytestmark = pytest.mark.e2e

HALT_S = 0.25
BUSY = """
import asyncio
from ib_async import Stock
from strategies.base import BaseStrategy
from strategies.exceptions import OrderDeniedError

class BusyStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.denied = 0
    async def run_strategy(self):
        side = 1
        while self.is_running:
            try:
                await self.place_order(Stock("SPY", "SMART", "USD"), side, algo=False)
                side = -side
            except OrderDeniedError as error:
                self.denied += 1
                self.last = error.code
            await asyncio.sleep(0.01)
"""
HUNG = """
import time
from ib_async import Stock
from strategies.base import BaseStrategy

class HungStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.let_go = False
    async def run_strategy(self):
        await self.place_order(Stock("SPY", "SMART", "USD"), 5, "LMT", algo=False, limit=1.0)
        await self.place_order(Stock("TLT", "SMART", "USD"), 3, algo=False)
        while not self.let_go:
            time.sleep(0.02)
"""


@pytest.fixture
def sent(rig: Rig) -> list[float]:
    """The moments at which orders reached the gateway's venue."""
    moments: list[float] = []
    venue = rig.gateway.venue
    place = venue.place

    def _noted(*args: Any, **kwargs: Any) -> Any:
        moments.append(time.monotonic())
        return place(*args, **kwargs)

    rig.gateway.call(lambda: setattr(venue, "place", _noted))
    return moments


@pytest.fixture
def mats_settings(mats_settings: Any, tmp_path: Path) -> Any:
    """A home of its own: other tests run beside this one, and its file would halt their engines."""
    home = tmp_path / "home"
    home.mkdir()
    mats_settings.MATS = dataclasses.replace(mats_settings.MATS, mats_home=home)
    return mats_settings


@contextmanager
def locked_database() -> Iterator[None]:
    """Hold the ledger's write lock from outside."""
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def nothing_for(seconds: float, moments: list[float], after: float) -> bool:
    """Tell whether no order reached the gateway later than ``after``, having watched for a while."""
    threading.Event().wait(seconds)
    return not [moment for moment in list(moments) if moment > after]


def hang(rig: Rig, engine: Any) -> Any:
    """Start a strategy that works one order, holds three TLT, and never lets go of its loop."""
    rig.strategy("HUNG", HUNG)
    strategy = rig.start(engine, "HUNG")
    until(lambda: position("HUNG", "TLT") == 3, 20, "its fill")
    return strategy


def test_halt_file_stops_every_order_within_a_quarter_second_beside_a_hung_strategy(
    rig: Rig, sent: list[float]
) -> None:
    engine = rig.engine()
    hung = hang(rig, engine)
    rig.strategy("BUSY", BUSY)
    busy = rig.start(engine, "BUSY")
    until(lambda: len(sent) >= 8, 20, "orders flow")
    risk_control.halt_file().path.touch()  # by hand, as anybody can who sees the machine
    halted = time.monotonic()
    until(lambda: busy.denied >= 3, 10, "it tries on")
    assert nothing_for(1.0, sent, halted + HALT_S)
    assert busy.last == "halted"
    until(lambda: TradingControl.objects.filter(owner="", state="halted").exists(), 10, "the books know")
    assert Alert.objects.filter(key="risk:account", cleared_at=None).exists()
    hung.let_go = True


@pytest.mark.skipif("postgres" in settings.DATABASES["default"]["ENGINE"], reason="locks SQLite's file")
def test_halt_holds_for_orders_that_wait_for_a_locked_database(rig: Rig, sent: list[float]) -> None:
    engine = rig.engine()
    hung = hang(rig, engine)
    rig.strategy("BUSY", BUSY)
    busy = rig.start(engine, "BUSY")
    until(lambda: len(sent) >= 4, 20, "orders flow")
    with locked_database():
        threading.Event().wait(0.3)  # an order waits for the lock now
        risk_control.halt_file().write("locked", "tester")
        halted = time.monotonic()
        until(lambda: engine.gate.halted, 5, "the watch saw it")
        assert time.monotonic() - halted < HALT_S
        assert nothing_for(0.5, sent, halted + HALT_S)
    until(lambda: busy.denied >= 2, 15, "it tries on")
    assert nothing_for(1.0, sent, halted + HALT_S)
    hung.let_go = True


def test_release_is_on_record_and_lets_orders_flow_again(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("A")
    strategy = rig.start(engine, "A")
    risk_control.halt("", reason="looks wrong", actor="otto", source="cli")
    until(lambda: engine.gate.halted, 5, "halted")
    with pytest.raises(OrderDeniedError, match="halted"):
        rig.place(strategy, "SPY", 1, 1.0)
    risk_control.halt_file().remove()  # taking the file away releases nothing
    with pytest.raises(OrderDeniedError, match="halted"):
        rig.place(strategy, "SPY", 1, 1.0)
    risk_control.release("", reason="was nothing", actor="anna", source="cli")
    until(lambda: not engine.gate.halted, 5, "released")
    rig.trade(strategy, "SPY", 1)
    entry = AuditEntry.objects.filter(action="risk.active").get()
    assert (entry.actor, entry.reason) == ("anna", "was nothing")
    assert not Alert.objects.filter(key="risk:account", cleared_at=None).exists()


def test_a_halt_outlives_the_engine(rig: Rig) -> None:
    first = rig.engine()
    risk_control.halt("", reason="over night", actor="otto", source="cli")
    first.cleanup(1.0)
    risk_control.halt_file().remove()
    second = rig.engine()
    rig.strategy("A")
    strategy = rig.start(second, "A")
    with pytest.raises(OrderDeniedError, match="over night"):
        rig.place(strategy, "SPY", 1, 1.0)


def test_reducing_lets_only_reductions_pass_and_changes_arrive_within_a_second(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("A")
    strategy = rig.start(engine, "A")
    rig.trade(strategy, "SPY", 5)
    risk_control.set_trading_state("A", TradingState.REDUCING, reason="enough", actor="otto", source="cli")
    until(lambda: engine.risk.decisions.state_of("A") is TradingState.REDUCING, 1.0, "within a second")
    with pytest.raises(OrderDeniedError) as caught:
        rig.trade(strategy, "SPY", 1)
    assert caught.value.code == "reducing"
    rig.trade(strategy, "SPY", -5)


def test_limit_that_is_set_reaches_the_engine_and_is_named_in_the_denial(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("A")
    strategy = rig.start(engine, "A")
    set_limit("order_quantity", Decimal(3), strategy="A", reason="small", actor="anna", source="api")
    until(lambda: engine.risk.decisions.revision >= read_revision(), 3.0, "the limit is known")
    with pytest.raises(OrderDeniedError) as caught:
        rig.trade(strategy, "SPY", 4)
    assert caught.value.fields | {"order_ref": ""} == {
        "limit": "3",
        "value": "4",
        "source": "strategy",
        "order_ref": "",
    }
    row = Order.objects.get(order_ref=caught.value.fields["order_ref"])
    assert row.state == "denied"
    assert "limit=3 value=4 source=strategy" in row.reason


# kill levels


def test_level_2_cancels_an_owners_orders_and_lets_others_trade(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("A")
    rig.strategy("B")
    first, second = rig.start(engine, "A"), rig.start(engine, "B")
    ticket = rig.place(first, "SPY", 1, 1.0)
    result = rig.result(rig.do("kill", level=2, owner="A", reason="wrong"))
    assert result["asked"] == [ticket.order_ref]
    assert result["working"] == []
    with pytest.raises(OrderDeniedError, match="A is halted"):
        rig.place(first, "SPY", 1, 1.0)
    rig.trade(second, "SPY", 1)


def test_level_4_cancels_at_the_gateway_what_a_hung_strategy_works_and_what_was_made_by_hand(rig: Rig) -> None:
    engine = rig.engine()
    hung = hang(rig, engine)
    result = rig.result(rig.do("kill", level=4, reason="everything"))
    assert rig.gateway.call(lambda: list(rig.gateway.venue.open_orders())) == []
    assert "TWS" in result["text"]
    assert risk_control.halt_file().exists()
    hung.let_go = True


def test_level_5_makes_the_account_flat_through_a_halt_and_a_hung_strategy(rig: Rig) -> None:
    engine = rig.engine()
    hung = hang(rig, engine)
    rig.strategy("B")
    other = rig.start(engine, "B")
    rig.trade(other, "SPY", -7)
    result = rig.result(rig.do("kill", level=5, reason="out", timeout_s=60.0))
    assert result["left"] == {}
    assert len(result["closed"]) == 2
    assert not Position.objects.exclude(quantity=0).exists()
    rig.assert_books_equal_broker()
    hung.let_go = True


def test_level_5_of_a_strategy_leaves_the_others_positions(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("A")
    rig.strategy("B")
    first, second = rig.start(engine, "A"), rig.start(engine, "B")
    rig.trade(first, "SPY", 4)
    rig.trade(second, "SPY", 6)
    result = rig.result(rig.do("kill", level=5, owner="A", reason="out", timeout_s=60.0))
    assert [position(owner, "SPY") for owner in "AB"] == [Decimal(0), Decimal(6)]
    assert result["left"] == {}


def test_what_if_tells_the_margin_and_places_nothing(rig: Rig, sent: list[float]) -> None:
    rig.engine()
    result = rig.result(rig.do("what_if", con_id=756733, quantity="100"))
    assert Decimal(result["initial_margin_change"]) > 0
    assert Decimal(result["equity_with_loan_after"]) > 0
    assert not rig.gateway.call(lambda: list(rig.gateway.venue.open_orders()))
    assert not Order.objects.exists()


def test_change_of_an_order_is_checked_like_a_new_one(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("A")
    strategy = rig.start(engine, "A")
    ticket = rig.place(strategy, "SPY", 2, 1.0)
    set_limit("order_quantity", Decimal(3), strategy="A", reason="small", actor="anna", source="api")
    until(lambda: engine.risk.decisions.revision >= read_revision(), 3.0, "the limit is known")
    with pytest.raises(OrderDeniedError) as caught:
        engine.trade_manager.modify_order(ticket.order_ref, quantity=4)
    assert caught.value.code == "order_quantity"
    engine.trade_manager.modify_order(ticket.order_ref, quantity=3)
    until(lambda: Order.objects.get(order_ref=ticket.order_ref).quantity == 3, 10, "the change is taken")


def test_overfill_is_booked_and_halts_its_strategy_alone(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("A")
    rig.strategy("B")
    first, second = rig.start(engine, "A"), rig.start(engine, "B")
    ticket = rig.trade(first, "SPY", 2)
    until(lambda: position("A", "SPY") == 2, 10)
    once = ticket.trade.fills[0]
    again = replace_fill(once, "9" * 8 + ".aaaa.01.01")
    engine.handle_fill_event("A", None, again)
    assert position("A", "SPY") == 4
    until(lambda: engine.gate.halted, 5, "halted")
    with pytest.raises(OrderDeniedError, match="overfilled"):
        rig.place(first, "SPY", 1, 1.0)
    rig.trade(second, "TLT", 1)


def replace_fill(fill: Any, exec_id: str) -> Any:
    """Return the same fill again under another execution id, as a venue that overfills reports it."""
    snapshot = mapping.fill_snapshot(fill)
    return dataclasses.replace(snapshot, exec_id=exec_id)
