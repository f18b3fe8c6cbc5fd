"""Orders from outside a strategy travel to the client that owns them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
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
        return asyncio.run_coroutine_threadsafe(make(), self.loop).result(timeout_s)

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
        return SimpleNamespace(run=loop.run, connection=connection)

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
