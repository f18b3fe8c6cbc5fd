"""A paper gateway, connections to it on the test's own loop, and the engine's side as brokers see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections

from portfolio.fx_cache import FXCache
from strategies.events import QueueMessage
from strategies.exceptions import LedgerError
from strategies.ports import StrategyPosition
from trading.brokers.live import LiveBroker
from trading.engine.gate import Gate
from trading.gateway.testing import RunningGateway, running_gateway
from trading.ib.capture import Capture
from trading.ib.connection import IBConnection
from trading.orders import db_threads, services
from trading.orders.intents import IntentWriter

DEADLINE_S = 10.0


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for a condition on this loop, at most ten seconds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


class Heard:
    """Stands where the message queue stands."""

    def __init__(self) -> None:
        self.messages: list[QueueMessage] = []

    def put(self, message: QueueMessage) -> None:
        self.messages.append(message)

    def of_type(self, kind: str) -> list[QueueMessage]:
        return [message for message in self.messages if message["type"] == kind]


class Books:
    """An empty ledger."""

    base_currency = "USD"
    fx_cache = FXCache(lambda: None)

    def get_strategy_positions(self, strategy: str) -> list[StrategyPosition]:
        return []

    def calculate_strategy_equity(self, strategy: str) -> Decimal:
        raise LedgerError("nothing is known")

    def get_portfolio_summary(self) -> dict[str, Any]:
        return {"net_liquidation": None}

    def get_daily_realized_pnl(self, strategy: str) -> Decimal:
        return Decimal(0)


@dataclass
class Engine:
    """What a broker needs of the engine, without the engine."""

    gate: Gate = field(default_factory=Gate)
    risk: None = None
    intents: IntentWriter = field(default_factory=lambda: IntentWriter(lambda: None))
    portfolio_manager: Books = field(default_factory=Books)
    message_queue: Heard = field(default_factory=Heard)


@dataclass
class Desk:
    """One strategy's side: connection, broker, what the ledger would hear."""

    connection: IBConnection
    broker: LiveBroker
    engine: Engine

    @property
    def heard(self) -> Heard:
        return self.engine.message_queue


@pytest.fixture(scope="module")
def gateway() -> Iterator[RunningGateway]:
    """A paper gateway with a seeded market."""
    with running_gateway(market="synthetic", seed=7, commission_delay_s=0.02) as running:
        yield running


@pytest.fixture
def connect(gateway: RunningGateway) -> Iterator[Callable[..., IBConnection]]:
    """Make connections to the gateway; all are closed afterwards."""
    made: list[IBConnection] = []

    def _make(client_id: int, **options: Any) -> IBConnection:
        given = {"host": gateway.host, "port": gateway.port, "connect_timeout_s": 5.0, **options}
        connection = IBConnection(client_id, role="strategy", name=f"T{client_id}", **given)
        made.append(connection)
        return connection

    yield _make
    assert not [connection for connection in made if connection.connected]


@pytest.fixture
async def desk(transactional_db: None, connect: Callable[..., IBConnection]) -> AsyncIterator[Desk]:
    """A connected broker of client 7 with an open gate."""
    services.owners.forget()
    engine = Engine()
    engine.gate.open()
    connection = connect(7)
    Capture(connection.ib, engine.message_queue.put, "T")
    await connection.connect_once()
    broker = LiveBroker(connection.ib, "T", engine=engine)
    yield Desk(connection, broker, engine)
    for ticket in broker.open_tickets() if connection.connected else ():
        connection.ib.cancelOrder(ticket.order)
    for ticket in broker.open_tickets() if connection.connected else ():
        await ticket.wait_done(DEADLINE_S)  # as long as the broker listens
    broker.close()
    connection.disconnect()
    await asyncio.to_thread(db_threads.close_all)
    connections.close_all()
