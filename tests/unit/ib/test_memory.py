"""A connection's memory stays bounded, and nothing that somebody still waits for is let go."""

from __future__ import annotations

import gc
import weakref

import pytest
from ib_async import IB

from strategies.events import QueueMessage
from tests.unit.ib import wire
from trading.ib import memory
from trading.ib.capture import Capture
from trading.ib.memory import Forgetting


@pytest.fixture
async def ib(monkeypatch: pytest.MonkeyPatch) -> IB:
    monkeypatch.setattr(memory, "_STEP", 10)
    monkeypatch.setattr(memory.Forgetting.__init__, "__kwdefaults__", {"trades": 20, "fills": 40, "log": 5})
    ib = wire.listening_ib()
    Capture(ib, messages.append, "T")
    messages.clear()
    return ib


messages: list[QueueMessage] = []


def filled(ib: IB, order_id: int, *, fee: bool = True, done: bool = True) -> None:
    """Let an order fill in one execution."""
    wire.known_order(ib, order_id)
    exec_id = f"0001.{order_id:08x}.01.01"
    wire.say(ib, *wire.execution(exec_id, order_id=order_id, perm_id=900 + order_id))
    if fee:
        wire.say(ib, *wire.commission(exec_id))
    if done:
        wire.say(ib, *wire.status("Filled", "22", "0", order_id=order_id))


async def test_orders_that_ended_go_with_their_executions_and_the_newest_stay(ib: IB) -> None:
    for order_id in range(1, 301):
        filled(ib, order_id)
    assert len(ib.trades()) <= 31
    assert len(ib.wrapper.permId2Trade) == len(ib.trades())
    assert {trade.order.orderId for trade in ib.trades()} >= set(range(290, 301))
    assert {fill.execution.orderId for fill in ib.fills()} <= {trade.order.orderId for trade in ib.trades()}
    assert len([one for one in messages if one["type"] == "fill"]) == 300


@pytest.mark.parametrize("kept", [{"fee": False}, {"done": False}])
async def test_working_orders_and_orders_without_their_fee_stay(ib: IB, kept: dict[str, bool]) -> None:
    filled(ib, 1, **kept)
    waiting = ib.trades()[0]
    for order_id in range(2, 301):
        filled(ib, order_id)
    assert waiting in ib.trades()
    assert [fill.execution.orderId for fill in ib.fills()].count(1) == 1


async def test_replay_after_an_order_went_adds_nothing_to_a_trade_and_does_not_stay(ib: IB) -> None:
    filled(ib, 1)
    gone = ib.trades()[0]
    for order_id in range(2, 301):
        filled(ib, order_id)
    for order_id in range(1, 301):
        exec_id = f"0001.{order_id:08x}.01.01"
        wire.say(ib, *wire.execution(exec_id, req_id=12, order_id=order_id, perm_id=900 + order_id))
    assert len(gone.fills) == 1
    assert all(len(trade.fills) == 1 for trade in ib.trades())
    assert len(ib.fills()) <= 60


async def test_what_went_is_freed_at_once_and_does_not_wait_for_the_collector(ib: IB) -> None:
    made: list[weakref.ref[object]] = []
    gc.disable()
    try:
        for order_id in range(1, 301):
            filled(ib, order_id)
            made.append(weakref.ref(ib.trades()[-1]))
        assert sum(1 for one in made if one() is not None) <= 31
    finally:
        gc.enable()


async def test_log_of_a_busy_order_keeps_its_last_lines(ib: IB) -> None:
    trade = wire.known_order(ib, 1)
    for number in range(200):
        wire.say(ib, *wire.execution(f"0001.02.{number:04x}.01", order_id=1, perm_id=901))
    assert len(trade.fills) == 200
    assert len(trade.log) <= 11
    assert trade.log[-1].message.startswith("Fill ")


async def test_nothing_goes_below_the_limits() -> None:
    ib = wire.listening_ib()
    forgetting = Forgetting(ib, trades=50, fills=50)
    for order_id in range(1, 41):
        wire.known_order(ib, order_id, status="Filled")
        forgetting.look()
    assert (len(ib.trades()), forgetting.forgotten) == (40, 0)
