"""Orders from outside a strategy travel to the client that owns them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connections
from ib_async import LimitOrder, Stock

from strategies.exceptions import ConflictError, NotFoundError, OrderRefusedError
from tests.e2e.orders.conftest import DEADLINE_S, Books, Heard
from trading.brokers.live import LiveBroker
from trading.engine.gate import Gate
from trading.gateway.testing import RunningGateway
from trading.ib.capture import Capture
from trading.ib.connection import IBConnection
from trading.models import Order
from trading.orders import db_threads, services
from trading.orders.intents import IntentWriter
from trading.orders.trade_manager import TradeManager

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]


class Loop:
    """A thread with a loop, as the master and every strategy have one."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, make: Callable[[], Coroutine[Any, Any, Any]], timeout_s: float = DEADLINE_S) -> Any:
        return self.begin(make).result(timeout_s)

    def begin(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(make(), self.loop)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE_S)
        self.loop.close()


class House:
    """The engine as the trade manager sees it, with real connections."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gate, self.intents = Gate(), IntentWriter(lambda: None)
        self.risk = None
        self.portfolio_manager, self.message_queue, self.ac = Books(), Heard(), None
        self.active_strategies: dict[str, Any] = {}
        self.noted: list[str] = []
        self.passed_by: list[str] = []
        self._gateway = gateway
        self._loops: list[Loop] = []
        self._closing: list[Callable[[], object]] = []
        self.gate.open()
        self.session = self._make_session()

    def make_connection(self, client_id: int, **options: Any) -> IBConnection:
        return IBConnection(
            client_id, host=self._gateway.host, port=self._gateway.port, connect_timeout_s=5.0, **options
        )

    def _connected(self, client_id: int, owner: str) -> tuple[Loop, IBConnection]:
        loop = Loop()
        self._loops.append(loop)

        async def _connect() -> IBConnection:
            connection = self.make_connection(client_id, role="strategy", name=owner)
            Capture(connection.ib, self.message_queue.put, owner)
            await connection.connect_once()
            return connection

        connection = loop.run(_connect)
        self._closing.append(lambda: loop.loop.call_soon_threadsafe(connection.disconnect))
        return loop, connection

    def _make_session(self) -> Any:
        loop, connection = self._connected(0, "")
        return SimpleNamespace(run=loop.run, begin=loop.begin, connection=connection)

    def note_orders(self, order_refs: Sequence[str], text: str) -> None:
        self.noted += order_refs

    def pass_by(self, strategy: Any) -> None:
        self.passed_by.append(strategy.symbol)

    def start(self, symbol: str, client_id: int) -> Any:
        """Run a strategy's connection."""
        loop, connection = self._connected(client_id, symbol)

        async def _broker() -> LiveBroker:
            return LiveBroker(connection.ib, symbol, engine=self)

        strategy = SimpleNamespace(
            symbol=symbol,
            client_id=client_id,
            broker=loop.run(_broker),
            _loop=loop.loop,
            is_connected=True,
            connection=connection,
            loop=loop,
        )
        self.active_strategies[symbol] = strategy
        return strategy

    def stop(self, symbol: str) -> None:
        """End a strategy, its orders work on."""
        strategy = self.active_strategies.pop(symbol)

        async def _disconnect() -> None:
            strategy.connection.disconnect()

        strategy.loop.run(_disconnect)

    def record(self) -> None:
        """Do what the message thread does."""
        for message in list(self.message_queue.messages):
            trade = message["trade"]
            if message["type"] == "order" and trade is not None:
                services.record_order(trade, datetime.now(UTC))
            elif message["type"] == "status_change" and trade is not None:
                services.record_status(trade, message["status"], datetime.now(UTC))

    def close(self) -> None:
        for close in self._closing:
            close()
        for loop in self._loops:
            loop.stop()


@pytest.fixture
def house(gateway: RunningGateway) -> Iterator[House]:
    services.owners.forget()
    made = House(gateway)
    yield made
    made.close()
    db_threads.close_all()
    connections.close_all()


def resting(quantity: int = 5) -> LimitOrder:
    return LimitOrder("BUY", quantity, 1.0)


def wait_state(house: House, ref: str, *states: str) -> Order:
    """Record what is heard until the order's row stands in one of the states."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        house.record()
        row = Order.objects.get(order_ref=ref)
        if row.state in states:
            return row
        time.sleep(0.02)
    pytest.fail(f"{ref} is {row.state}, not one of {states}")


APPLE = Stock("AAPL", "SMART", "USD")


def test_order_for_a_running_strategy_goes_through_its_own_client(house: House) -> None:
    house.start("T", 7)
    manager = TradeManager(house)
    ref = manager.place_order(APPLE, resting(), "T").order_ref
    assert (wait_state(house, ref, "accepted").client_id, ref.split("/")[0]) == (7, "T")
    manager.modify_order(ref, quantity=3)
    manager.cancel_order(ref)
    wait_state(house, ref, "cancelled")
    with pytest.raises(ConflictError) as caught:
        manager.cancel_order(ref)
    assert caught.value.code == "order_done"


def test_order_for_nobody_running_goes_through_the_master(house: House) -> None:
    manager = TradeManager(house)
    ticket = manager.trade(APPLE, Decimal(5), "LMT", limit=Decimal("1.0"), algo=False)
    row = wait_state(house, ticket.order_ref, "accepted")
    assert (row.client_id, row.owner) == (0, "Discretionary")
    manager.cancel_order(ticket.order_ref)
    wait_state(house, ticket.order_ref, "cancelled")


def test_order_of_a_stopped_strategy_is_cancelled_by_connecting_as_its_client(house: House) -> None:
    house.start("T", 8)
    manager = TradeManager(house)
    ref = manager.place_order(APPLE, resting(), "T").order_ref
    wait_state(house, ref, "accepted")
    house.stop("T")
    with pytest.raises(OrderRefusedError) as caught:
        manager.modify_order(ref, quantity=3)
    assert caught.value.code == "owner_gone"
    manager.cancel_order(ref)
    wait_state(house, ref, "cancelled")


def test_flatten_cancels_what_works_before_it_closes(house: House) -> None:
    house.start("T", 9)
    manager = TradeManager(house)
    ref = manager.place_order(APPLE, resting(), "T").order_ref
    wait_state(house, ref, "accepted")
    recorder = threading.Thread(target=wait_state, args=(house, ref, "cancelled"))
    recorder.start()
    assert manager.flatten("T") == []
    recorder.join(DEADLINE_S)
    assert Order.objects.get(order_ref=ref).state == "cancelled"


def test_unknown_order_is_told(house: House) -> None:
    with pytest.raises(NotFoundError) as caught:
        TradeManager(house).cancel_order("T/nothing")
    assert caught.value.code == "unknown_order"


def test_order_placed_on_the_owners_own_loop_is_a_task(house: House) -> None:
    strategy = house.start("T", 10)
    manager = TradeManager(house)

    async def _on_own_loop() -> Any:
        return await manager.place_order(APPLE, resting(), "T")

    ticket = strategy.loop.run(_on_own_loop)
    wait_state(house, ticket.order_ref, "accepted")
    manager.cancel_order(ticket.order_ref)
    wait_state(house, ticket.order_ref, "cancelled")


# -- a strategy that hangs


class Hung:
    """Blocks a loop as ``while True`` in a strategy does, until it is left."""

    def __init__(self, loop: Loop) -> None:
        self._loop, self._over, self.is_in = loop, threading.Event(), threading.Event()

    def block(self) -> None:
        """Hang, on the loop."""
        self.is_in.set()
        self._over.wait(DEADLINE_S)

    def __enter__(self) -> None:
        self._loop.loop.call_soon_threadsafe(self.block)
        assert self.is_in.wait(DEADLINE_S)

    def __exit__(self, *_: object) -> None:
        self._over.set()


def place_several(house: House, manager: TradeManager, owner: str, count: int = 4) -> list[str]:
    refs = [manager.place_order(APPLE, resting(5 + number), owner).order_ref for number in range(count)]
    for ref in refs:
        wait_state(house, ref, "accepted")
    return refs


def test_orders_of_a_hung_strategy_are_cancelled_within_a_quarter_of_a_second(house: House) -> None:
    strategy = house.start("T", 11)
    manager = TradeManager(house)
    refs = place_several(house, manager, "T")
    with Hung(strategy.loop):
        began = time.monotonic()
        report = manager.cancel_owner("T")
        took_s = time.monotonic() - began
        for ref in refs:  # heard by the master alone: the strategy's own loop still hangs
            wait_state(house, ref, "cancelled")
    assert (sorted(report.asked), report.errors) == (sorted(refs), {})
    assert took_s <= 0.25
    assert (sorted(house.noted), house.passed_by) == (sorted(refs), ["T"])


def test_cancel_is_sent_once_although_the_loop_returns(house: House) -> None:
    strategy = house.start("T", 12)
    manager = TradeManager(house)
    refs = place_several(house, manager, "T", 2)
    with Hung(strategy.loop):
        manager.cancel_owner("T")
    for ref in refs:
        wait_state(house, ref, "cancelled")

    async def _settled() -> list[Any]:
        return [strategy.broker.ticket(ref).trade.log for ref in refs]

    for log in strategy.loop.run(_settled):
        assert not [line for line in log if line.errorCode in (161, 10147, 10148)], "IB was asked a second time"


def test_line_with_bytes_waiting_is_cut_and_its_client_connected_anew(house: House) -> None:
    strategy = house.start("T", 13)
    manager = TradeManager(house)
    refs = place_several(house, manager, "T", 2)
    with Hung(strategy.loop):
        strategy.connection.ib.client._msgQ.append("held back by ib_async for its pace")
        report = manager.cancel_owner("T")
        assert (sorted(report.asked), report.errors) == (sorted(refs), {})
        for ref in refs:
            wait_state(house, ref, "cancelled")


def test_what_is_sent_past_a_loop_counts_for_its_pace(house: House) -> None:
    strategy = house.start("T", 19)
    manager = TradeManager(house)
    refs = place_several(house, manager, "T", 3)
    budget = strategy.connection._budget

    def messages() -> int:
        return int(budget.of_client(19, time.monotonic())["messages"])

    while messages():  # what was sent before
        time.sleep(0.05)
    with Hung(strategy.loop):
        manager.modify_order(refs[0], quantity=2)
        assert messages() == 1
        manager.cancel_owner("T")
        assert messages() == 4
        for ref in refs:
            wait_state(house, ref, "cancelled")


def test_order_that_waits_for_its_pace_is_not_overtaken_but_dropped_with_its_line(house: House) -> None:
    strategy = house.start("T", 20)
    manager = TradeManager(house)
    [ref] = place_several(house, manager, "T", 1)
    budget, ib = strategy.connection._budget, strategy.connection.ib
    late = resting(3)
    late.orderRef = "T/late"

    async def _place_late() -> None:
        while not budget.take(20, time.monotonic()):
            pass  # use up this second, so that the next order waits
        ib.placeOrder(strategy.broker.ticket(ref).contract, late)
        assert strategy.connection._sender.orders_wait
        strategy.loop.loop.call_later(0.1, hang.block)

    hang = Hung(strategy.loop)
    strategy.loop.run(_place_late)
    try:
        assert hang.is_in.wait(DEADLINE_S)
        report = manager.cancel_owner("T")
        assert (report.asked, report.errors) == ([ref], {})
        wait_state(house, ref, "cancelled")
    finally:
        hang.__exit__()
    deadline = time.monotonic() + DEADLINE_S
    while strategy.connection._sender.orders_wait:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    received = house._gateway.call(lambda: house._gateway.venue.received_order_refs["T/late"])
    assert received == 0, "what waited went with its line"


def test_order_of_a_hung_strategy_is_changed_past_its_loop(house: House) -> None:
    strategy = house.start("T", 14)
    manager = TradeManager(house)
    [ref] = place_several(house, manager, "T", 1)
    with Hung(strategy.loop):
        manager.modify_order(ref, quantity=2, limit=Decimal("1.5"))

        def _changed() -> bool:
            house.record()
            row = Order.objects.get(order_ref=ref)
            return (row.quantity, row.limit_price) == (Decimal(2), Decimal("1.5"))

        deadline = time.monotonic() + DEADLINE_S
        while not _changed():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    manager.cancel_order(ref)
    wait_state(house, ref, "cancelled")


def test_order_for_a_hung_strategy_goes_through_the_master(house: House) -> None:
    strategy = house.start("T", 15)
    manager = TradeManager(house)
    with Hung(strategy.loop):
        ref = manager.place_order(APPLE, resting(), "T").order_ref
        row = wait_state(house, ref, "accepted")
        assert (row.client_id, row.owner) == (0, "T")
        manager.cancel_owner("T")
        wait_state(house, ref, "cancelled")


def test_everybodys_orders_are_cancelled_together(house: House) -> None:
    first, second = house.start("T", 16), house.start("U", 17)
    manager = TradeManager(house)
    refs = place_several(house, manager, "T", 2) + place_several(house, manager, "U", 2)
    refs.append(manager.place_order(APPLE, resting(30), "Discretionary").order_ref)
    wait_state(house, refs[-1], "accepted")
    with Hung(first.loop), Hung(second.loop):
        began = time.monotonic()
        report = manager.cancel_owner(None)
        assert time.monotonic() - began <= 0.35
        assert sorted(report.asked) == sorted(refs)
        for ref in refs:
            wait_state(house, ref, "cancelled")


def test_order_nobody_answers_for_is_not_changed(house: House) -> None:
    house.start("T", 18)
    manager = TradeManager(house)
    [ref] = place_several(house, manager, "T", 1)
    Order.objects.filter(order_ref=ref).update(state="unknown")
    with pytest.raises(OrderRefusedError) as caught:
        manager.modify_order(ref, quantity=2)
    assert caught.value.code == "unconfirmed"
    manager.cancel_owner("T")
