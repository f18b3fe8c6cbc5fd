"""Every way of an order while trading is halted, against what reached the gateway; and kill levels beside exits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from ib_async import Contract, Stock

from strategies.combos import roll
from strategies.exceptions import MatsError
from strategies.order_types import Terms
from strategies.sizing import order_of
from tests.e2e.engine.harness import Rig, position, until
from tests.e2e.engine.test_halt import mats_settings, nothing_for, sent
from trading import risk_control
from trading.engine import kill
from trading.models import Order
from trading.risk_models import TradingControl
from trading.risk_services import set_state

__all__ = ["mats_settings", "sent"]

pytestmark = pytest.mark.e2e

SPY, TLT = Stock("SPY", "SMART", "USD"), Stock("TLT", "SMART", "USD")
HANGS = """
import time
from ib_async import Stock
from strategies.base import BaseStrategy

class HangsStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.let_go = False
    async def run_strategy(self):
        entry, *_ = await self.place_bracket(Stock("SPY", "SMART", "USD"), 5, take_profit=9000.0, stop_loss=0.5)
        await entry.wait_done(10.0)
        while not self.let_go:
            time.sleep(0.02)
"""


def on_strategy(make: Callable[[Any], Any]) -> Callable[[Rig, Any, Any], None]:
    return lambda rig, engine, strategy: rig.on_loop(strategy, make(strategy))


async def _combination(strategy: Any) -> None:
    spy, tlt = await strategy.broker.qualify_all([SPY, TLT])
    made, units = roll(spy, tlt, Decimal(1))
    await strategy.place_order(made, order=order_of(units, Terms("MKT"), sec_type="BAG"))


def command(kind: str, **args: Any) -> Callable[[Rig, Any, Any], None]:
    def _send(rig: Rig, engine: Any, strategy: Any) -> None:
        done = rig.do(kind, **args)
        assert done.state != "done", done.result
        raise MatsError(str(done.error), code="refused")

    return _send


def changed(rig: Rig, engine: Any, strategy: Any) -> None:
    working = Order.objects.get(owner="A", state="accepted")
    engine.trade_manager.modify_order(working.order_ref, limit=2.0)


def grown(rig: Rig, engine: Any, strategy: Any) -> None:
    working = Order.objects.get(owner="A", state="accepted")
    engine.trade_manager.modify_order(working.order_ref, quantity=9)


WAYS: dict[str, Callable[[Rig, Any, Any], None]] = {
    "wrapper": on_strategy(lambda one: one.place_order(SPY, 1, algo=False)),
    "closing": on_strategy(lambda one: one.place_order(SPY, -4, algo=False)),
    "trailing": on_strategy(lambda one: one.place_order(SPY, -4, "TRAIL", algo=False, trail=1.0)),
    "bracket": on_strategy(lambda one: one.place_bracket(SPY, 1, take_profit=9000.0, stop_loss=0.5)),
    "change of a price": changed,
    "growth": grown,
    "trade manager": lambda rig, engine, one: engine.trade_manager.trade("TLT", 1, algo=False, orderRef="A"),
    "by hand": lambda rig, engine, one: engine.trade_manager.trade("TLT", 1, algo=False),
    "page": command("place_order", contract={"text": "TLT"}, quantity="1", order_type="MKT", strategy="A"),
    "roll": lambda rig, engine, one: engine.trade_manager.roll_future(
        Contract(secType="STK", symbol="SPY", exchange="SMART", currency="USD"),
        Contract(secType="STK", symbol="TLT", exchange="SMART", currency="USD"),
        1,
        orderRef="A",
    ),
    "combination": on_strategy(_combination),
    "flatten of a strategy": lambda rig, engine, one: engine.trade_manager.flatten("A"),  # cancels: the last
}


def refusal(send: Callable[[], None]) -> MatsError | None:
    try:
        send()
    except MatsError as error:
        return error
    return None


def test_no_way_leads_an_order_past_a_halt(rig: Rig, sent: list[float]) -> None:
    engine = rig.engine()
    rig.strategy("A")
    strategy = rig.start(engine, "A")
    rig.trade(strategy, "SPY", 4)
    rig.place(strategy, "SPY", 2, 1.0)
    until(lambda: Order.objects.filter(owner="A", state="accepted").exists(), 15, "it works")
    risk_control.halt_file().write("table", "tester")
    until(lambda: engine.gate.halted, 5, "halted")
    began = time.monotonic()
    passed = [name for name, way in WAYS.items() if not refusal(partial(way, rig, engine, strategy))]
    assert passed == []
    assert nothing_for(0.5, sent, began)
    assert position("A", "SPY") == 4


def test_exits_shrink_with_their_position_while_halted(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("A")
    strategy = rig.start(engine, "A")

    async def _bracket() -> list[Any]:
        tickets = await strategy.place_bracket(SPY, 10, take_profit=9000.0, stop_loss=0.5)
        assert await tickets[0].wait_done(15.0)
        return list(tickets)

    tickets = rig.on_loop(strategy, _bracket())
    exits = Order.objects.filter(parent_ref=tickets[0].order_ref)
    until(lambda: set(exits.values_list("state", flat=True)) == {"accepted"}, 15, "its exits work")
    risk_control.halt_file().write("halt", "tester")
    until(lambda: engine.gate.halted, 5, "halted")
    rig.gateway.fault(f"offfill SPY -4 ref={tickets[0].order_ref}")
    engine.session.request_check()
    until(lambda: position("A", "SPY") == 6, 20, "the fill is booked")
    until(lambda: set(exits.values_list("quantity", flat=True)) == {Decimal(6)}, 20, "the exits shrank")


def test_halt_of_a_strategy_that_is_not_stored_yet_outlives_a_change_of_limits(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("A")
    strategy = rig.start(engine, "A")
    engine.risk.halt_now("A", "stop")
    engine.risk.reload()
    with pytest.raises(MatsError, match="stop"):
        rig.place(strategy, "SPY", 1, 1.0)
    risk_control.halt("A", reason="stored", actor="otto", source="cli")
    risk_control.release("A", reason="over", actor="anna", source="cli")
    until(lambda: "A" not in engine.gate.halted, 10, "released")
    rig.place(strategy, "SPY", 1, 1.0)


def hang(rig: Rig, engine: Any) -> Any:
    rig.strategy("HANGS", HANGS)
    strategy = rig.start(engine, "HANGS")
    until(lambda: position("HANGS", "SPY") == 5, 20, "its entry filled")
    until(lambda: Order.objects.filter(owner="HANGS", state="accepted").count() == 2, 20, "its exits work")
    return strategy


@pytest.mark.parametrize("owner", ["HANGS", ""])
def test_level_5_closes_beside_the_exits_of_a_hung_strategy(rig: Rig, owner: str) -> None:
    engine = rig.engine()
    hung = hang(rig, engine)
    try:
        whose = {"owner": owner} if owner else {}
        result = rig.result(rig.do("kill", level=5, reason="out", timeout_s=60.0, **whose))
        assert (result["left"], result["working"]) == ({}, []), result
        assert rig.gateway.call(lambda: list(rig.gateway.venue.open_orders())) == []
        assert position("HANGS", "SPY") == 0
        rig.assert_books_equal_broker()
    finally:
        hung.let_go = True


def test_level_5_closes_what_was_filled_unheard_and_turns_nothing_around(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("A")
    strategy = rig.start(engine, "A")
    ticket = rig.trade(strategy, "SPY", 10)
    rig.gateway.fault(f"offfill SPY -4 ref={ticket.order_ref}")
    result = rig.result(rig.do("kill", level=5, owner="A", reason="out", timeout_s=60.0))
    assert result["left"] == {}, result
    assert position("A", "SPY") == 0
    rig.assert_books_equal_broker()


def test_strategy_that_keeps_trying_while_halted_leaves_a_counted_row_a_second(rig: Rig) -> None:
    engine = rig.engine()
    rig.strategy("A")
    strategy = rig.start(engine, "A")
    risk_control.halt("A", reason="enough", actor="otto", source="cli")
    until(lambda: "A" in engine.gate.halted, 10, "halted")
    began, refs = time.monotonic(), []
    for _ in range(40):
        refused = refusal(lambda: rig.place(strategy, "SPY", 1, 1.0))
        assert refused is not None
        refs.append(refused.fields["order_ref"])
    seconds = int(time.monotonic() - began) + 1
    rows = Order.objects.filter(owner="A", state="denied")
    assert set(refs) == set(rows.values_list("order_ref", flat=True))
    assert rows.count() <= seconds

    def _counted() -> int:
        said = [row.reason.partition(" [")[2] for row in rows.all()]
        return sum(int(text.split()[0]) for text in said if "more within a second" in text)

    until(lambda: _counted() + rows.count() == 40, 15, "every try is on record")


def test_level_2_asks_ib_within_a_quarter_second_beside_a_hung_strategy_and_a_locked_ledger(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = rig.engine()
    hung = hang(rig, engine)
    asked: list[float] = []
    venue = rig.gateway.venue
    cancel = venue.cancel

    def _noted(*args: Any, **kwargs: Any) -> Any:
        asked.append(time.monotonic())
        return cancel(*args, **kwargs)

    rig.gateway.call(lambda: setattr(venue, "cancel", _noted))
    let_go = threading.Event()

    def _slow(*args: Any, **named: Any) -> Any:
        let_go.wait(2.0)
        return set_state(*args, **named)

    monkeypatch.setattr("trading.engine.kill.set_state", _slow)
    try:
        began = time.monotonic()
        outcome = kill.kill(engine, kill.CANCEL, "HANGS", "stop", "tester", "cli")
        assert asked[0] - began <= 0.25
        assert (len(outcome.asked), outcome.working, outcome.errors) == (2, [], {})
        assert TradingControl.objects.get(owner="HANGS").state == "halted"
    finally:
        hung.let_go = True
