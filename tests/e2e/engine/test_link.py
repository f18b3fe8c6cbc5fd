"""The link to a real gateway: scheduled restarts, IB's own outages, ids in use, many that return at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from strategies.exceptions import OrderDeniedError
from tests.e2e.engine.harness import Clock, Rig, position, run_state, until
from trading.engine.ladder import LinkState
from trading.engine.manager import StrategyManager
from trading.engine.resets import ResetKind, parse_reset
from trading.ib.connection import IBConnection
from trading.models import Alert, Order

pytestmark = pytest.mark.e2e

RESTART = datetime(2026, 12, 16, 4, 45, tzinfo=UTC)  # 23:45 in New York


def at_night(engine: StrategyManager, before_s: float) -> Clock:
    """Give the engine a restart at 23:45 New York time, and put its clock so many seconds before."""
    clock = Clock(RESTART - timedelta(seconds=before_s))
    rule = parse_reset("23:45", ResetKind.RESTART, "X")
    assert rule is not None
    engine.link.rules, engine.link.now = (rule,), clock
    engine.link.compared(clock())
    return clock


def denial(rig: Rig, strategy: Any) -> OrderDeniedError:
    with pytest.raises(OrderDeniedError) as caught:
        rig.place(strategy, "SPY", 1, limit=1.0)
    return caught.value


def hears(engine: StrategyManager, code: int, text: str) -> None:
    """Have the master's connection hear a system message."""

    async def _hear() -> None:
        assert engine.session.connection is not None
        engine.session.connection.ib.wrapper.error(-1, code, text, "")

    engine.session.run(_hear, 10.0)


def test_orders_wait_for_a_scheduled_restart_and_flow_after_the_look_behind_it(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    clock = at_night(engine, 70)
    working = rig.place(alpha, "SPY", 1, limit=1.0)
    rig.trade(alpha, "SPY", 2)

    clock.put(RESTART - timedelta(seconds=50))
    refused = denial(rig, alpha)
    assert (refused.code, refused.fields["retry_after_s"]) == ("reset_pending", 650)
    assert engine.heartbeat_status()["gate"] == "reset_pending"
    until(lambda: Alert.objects.filter(key="link:reset", cleared_at=None).exists(), what="every page says so")
    rig.on_loop(alpha, alpha.broker.cancel_order(working.order_ref))
    until(lambda: Order.objects.get(order_ref=working.order_ref).state == "cancelled", what="cancels pass")

    clock.put(RESTART + timedelta(seconds=5))
    rig.stop_server()
    until(lambda: engine.link.state is LinkState.RESET, what="a quiet wait")
    rig.inject("SPY", 3, publish=False)
    rig.start_server()
    until(lambda: engine.link.hold() is None, 30, "the books were compared behind the restart")
    assert engine.gate.wait_open(20)
    until(lambda: alpha.is_connected, what="the strategy is back")
    rig.trade(alpha, "SPY", 1)
    until(lambda: position("ALPHA", "SPY") == 3)
    rig.assert_books_equal_broker()
    ids = list(Order.objects.filter(client_id=alpha.client_id).values_list("order_id", flat=True))
    assert len(ids) == len(set(ids))
    assert not Alert.objects.filter(key="link", cleared_at=None).exists()
    until(lambda: not Alert.objects.filter(key="link:reset", cleared_at=None).exists())


def test_a_restart_that_does_not_come_ends_with_its_window_and_a_look(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    clock = at_night(engine, 30)
    assert denial(rig, alpha).code == "reset_pending"
    clock.put(RESTART + timedelta(minutes=10))
    until(lambda: engine.link.hold() is None, 30, "a look of its own")
    rig.trade(alpha, "SPY", 1)


def test_a_gateway_that_stays_away_needs_a_human_once_and_the_alert_ends_with_it(rig: Rig) -> None:
    engine = rig.engine()
    clock = at_night(engine, -1)
    rig.stop_server()
    until(lambda: engine.link.state is LinkState.RESET)
    clock.put(RESTART + timedelta(hours=3))
    alert = until(lambda: Alert.objects.filter(key="link", severity="critical").first(), what="the alert")
    assert "after the restart reset" in alert.title
    for hours in (4, 5, 6):
        clock.put(RESTART + timedelta(hours=hours))
        until(lambda: engine.link.tick() or True)
    assert Alert.objects.filter(key="link").count() == 1
    rig.start_server()
    assert engine.gate.wait_open(30)
    clock.put(RESTART + timedelta(hours=7))
    until(lambda: Alert.objects.filter(key="link", cleared_at=None).exists() is False, 20, "the end of the alert")


def test_ibs_own_outage_shuts_the_gate_and_a_fill_meanwhile_is_booked_before_it_opens(rig: Rig) -> None:
    rig.strategy("ALPHA")
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    for _ in range(3):  # TWS repeats it every few seconds
        hears(engine, 1100, "Connectivity between IB and Trader Workstation has been lost.")
    assert engine.link.state is LinkState.UPSTREAM_LOST
    assert denial(rig, alpha).code == "not_connected"
    rig.inject("SPY", 5, publish=False)
    hears(engine, 1102, "Connectivity restored - data maintained.")
    assert engine.gate.wait_open(20)
    assert position("Discretionary", "SPY") == 5
    rig.trade(alpha, "SPY", 1)
    rig.assert_books_equal_broker()


def test_an_outage_that_ends_while_the_books_are_compared_asks_for_another_look(rig: Rig) -> None:
    engine = rig.engine()
    cycles: list[bool] = []
    original = engine.session._reconciler.cycle

    async def _cycle(*, whole: bool = True) -> dict[str, Any]:
        result = await original(whole=whole)
        if not cycles:
            hear = engine.session._on_error
            hear(1100, "lost", -1)
            hear(1102, "back", -1)
        cycles.append(engine.gate.is_open)
        return result

    engine.session._reconciler.cycle = _cycle  # type: ignore[method-assign]
    hears(engine, 1100, "lost")
    hears(engine, 1102, "back")
    assert engine.gate.wait_open(20)
    assert cycles[:2] == [False, False]


SUBSCRIBER = """
from ib_async import Stock
from strategies.base import BaseStrategy

class SubscriberStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.seen = []
        await self.on_reconnected()
    async def on_reconnected(self):
        contract = await self.qualify(Stock("SPY", "SMART", "USD"))
        self.subscribe_bars(contract)
    def on_bar(self, contract, bar):
        self.seen.append(bar.time)
    async def run_strategy(self):
        await self.until_stopped()
"""


def test_1101_has_recorder_and_strategy_streams_asked_for_again_and_no_bar_comes_twice(rig: Rig) -> None:
    rig.strategy("ALPHA", SUBSCRIBER)
    engine = rig.engine()
    alpha = rig.start(engine, "ALPHA")
    rig.trade(alpha, "SPY", 1)
    until(lambda: engine.recorder is not None and engine.recorder.recorded, 20)

    async def _lost() -> None:
        alpha.ib.wrapper.error(-1, 1101, "Connectivity restored - data lost.", "")

    recorded = engine.recorder._lines  # type: ignore[union-attr]
    rig.on_loop(alpha, _lost())
    hears(engine, 1101, "Connectivity restored - data lost.")
    until(lambda: engine.recorder is not None and engine.recorder._lines is not recorded, what="the recorder too")
    count = len(alpha.seen)
    until(lambda: len(alpha.seen) >= count + 2, 20, "bars come again")
    assert len(alpha.seen) == len(set(alpha.seen))
    assert engine.gate.wait_open(20)


@contextmanager
def squatter(rig: Rig, client_id: int) -> Iterator[Callable[[], bool]]:
    """Hold a client id at the gateway from another program; gives whether it is still connected."""
    loop = asyncio.new_event_loop()

    async def _connect() -> IBConnection:
        made = IBConnection(
            client_id,
            host="127.0.0.1",
            port=rig.gateway.port,
            role="strategy",
            name="squatter",
            connect_timeout_s=5.0,
        )
        await made.connect_once()
        return made

    connection = loop.run_until_complete(_connect())
    try:
        yield lambda: bool(loop.run_until_complete(_look(connection)))
    finally:
        loop.run_until_complete(_leave(connection))
        loop.close()


async def _look(connection: IBConnection) -> bool:
    await asyncio.sleep(0.05)
    return connection.connected


async def _leave(connection: IBConnection) -> None:
    connection.disconnect()
    await asyncio.sleep(0.05)


@pytest.mark.parametrize("client_id", [0, 99, 1])
def test_an_id_in_use_is_waited_for_and_never_stolen(rig: Rig, client_id: int) -> None:
    rig.strategy("ALPHA")
    with squatter(rig, client_id) as holds:
        engine = rig.engine(wait=client_id != 0)
        if client_id == 1:
            engine.supervisor.start("ALPHA")

        def _row() -> dict[str, Any]:
            found = [row for row in engine.connection_rows() if row["client_id"] == client_id]
            return found[0] if found else {"message": ""}

        until(lambda: "is in use at the gateway" in _row()["message"], 20, "the reason is told")
        assert engine.gate.is_open is (client_id != 0)
        assert holds()
    until(lambda: _row().get("connected"), 40, "connected once it is free")
    if client_id == 1:
        until(lambda: run_state("ALPHA") == "running", 20)


def test_many_connections_that_return_at_once_lose_nothing(rig: Rig) -> None:
    symbols = [f"S{number}" for number in range(8)]  # ten sockets with the engine's own
    for symbol in symbols:
        rig.strategy(symbol, weight="0.01")
    engine = rig.engine()
    strategies = [rig.start(engine, symbol) for symbol in symbols]
    tickets = [rig.trade(strategy, "SPY", 1) for strategy in strategies]
    rig.stop_server()
    until(lambda: not any(strategy.is_connected for strategy in strategies), what="all are down")
    for strategy, ticket in zip(strategies, tickets, strict=True):
        rig.inject("SPY", 20, order_ref=ticket.order_ref, client_id=strategy.client_id, publish=False)
    rig.start_server()
    began = time.monotonic()
    until(lambda: all(strategy.is_connected for strategy in strategies) and engine.gate.is_open, 60, "all are back")
    rig.assert_books_equal_broker()
    assert time.monotonic() - began < 60  # 30 s on a machine of its own
    assert all(position(symbol, "SPY") == 21 for symbol in symbols)
