"""An engine in this process against a paper gateway over loopback, with strategies written by the test."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from ib_async import Stock

from portfolio.models import CashBalance, Execution, Position
from strategies.models import DISCRETIONARY, Strategy
from strategies.services import save_strategy
from trading.engine.manager import StrategyManager
from trading.gateway.model import ExecutionFilter
from trading.gateway.testing import RunningGateway
from trading.models import EngineCommand, StrategyRun
from trading.services import enqueue, wait_for

IDLE = """
from strategies.base import BaseStrategy

class IdleStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.reconnects = 0
    async def run_strategy(self):
        await self.until_stopped()
    async def on_reconnected(self):
        self.reconnects += 1
"""


def until(condition: Callable[[], Any], timeout_s: float = 15.0, what: str = "") -> Any:
    """Return the condition's first true value.

    Raises: AssertionError when the time is over.
    """
    deadline = time.monotonic() + timeout_s
    tick = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what or condition}"
        tick.wait(0.01)


class Clock:
    """A wall clock that runs on from wherever it is put, so many times as fast as the real one."""

    def __init__(self, at: datetime, speed: float = 1.0) -> None:
        self.put(at, speed)

    def put(self, at: datetime, speed: float = 1.0) -> None:
        """Go on from this moment."""
        self._set = at, speed, time.monotonic()  # one value: others read it meanwhile

    def __call__(self) -> datetime:
        at, speed, since = self._set
        return at + timedelta(seconds=speed * (time.monotonic() - since))

    def jump(self, by: timedelta) -> None:
        """Go on so much later."""
        self.put(self() + by, self._set[1])


@dataclass
class Rig:
    """Gateway, strategy folder, and the engines that a test starts."""

    gateway: RunningGateway
    folder: Path
    engines: list[StrategyManager] = field(default_factory=list)

    def strategy(self, symbol: str, source: str = IDLE, *, weight: str = "0.1", **fields: Any) -> Strategy:
        """Write a strategy file and its row."""
        filename = f"{symbol.lower()}_file.py"
        (self.folder / filename).write_text(source, encoding="utf-8")
        values = {"restart_policy": "never", "target_weight": Decimal(weight), **fields}
        return save_strategy({"symbol": symbol, "filename": filename, **values}, None)

    def engine(self, *, autostart: bool = True, wait: bool = True) -> StrategyManager:
        """Start an engine; by default wait until orders may flow."""
        engine = StrategyManager()
        engine.autostart = autostart
        engine.stop_grace_s = 5.0
        self.engines.append(engine)
        engine.start()
        if wait:
            assert engine.gate.wait_open(20.0), engine.state_message
        return engine

    def do(self, kind: str, timeout_s: float = 20.0, **args: Any) -> EngineCommand:
        """Send a command and return it finished."""
        return self.finished(enqueue(kind, args, source="test").id, timeout_s)

    def finished(self, command_id: UUID, timeout_s: float = 20.0) -> EngineCommand:
        """Wait for a command."""
        command = wait_for(command_id, timeout_s)
        assert command.finished_at is not None, f"{command.kind} is {command.state}"
        return command

    def start(self, engine: StrategyManager, symbol: str) -> Any:
        """Start a strategy through a command; return its instance, running."""
        command = self.do("start_strategy", symbol=symbol)
        assert command.state == "done", command.error
        return engine.active_strategies[symbol]

    def on_loop(self, strategy: Any, work: Coroutine[Any, Any, Any], timeout_s: float = 15.0) -> Any:
        """Run a coroutine on a strategy's own loop."""
        return asyncio.run_coroutine_threadsafe(work, strategy._loop).result(timeout_s)

    def trade(self, strategy: Any, symbol: str, quantity: int) -> Any:
        """Place a market order and wait until it is done; return the ticket."""

        async def _trade() -> Any:
            ticket = await strategy.place_order(Stock(symbol, "SMART", "USD"), quantity, algo=False)
            assert await ticket.wait_done(10.0), ticket
            return ticket

        return self.on_loop(strategy, _trade())

    def place(self, strategy: Any, symbol: str, quantity: int, limit: float) -> Any:
        """Place a limit order and return its ticket."""

        async def _place() -> Any:
            return await strategy.place_order(Stock(symbol, "SMART", "USD"), quantity, "LMT", algo=False, limit=limit)

        return self.on_loop(strategy, _place())

    def result(self, command: EngineCommand) -> dict[str, Any]:
        """Return the result of a command that was done."""
        assert command.state == "done", command.error
        assert command.result is not None
        return dict(command.result)

    # truth

    def broker_executions(self) -> set[str]:
        """Return the exec ids that the gateway holds; a combination reports itself beside its legs and is no fill."""
        found = self.gateway.call(lambda: self.gateway.venue.executions(ExecutionFilter()))
        return {execution.exec_id for execution, _ in found if execution.contract.sec_type != "BAG"}

    def inject(self, symbol: str, count: int, order_ref: str = "", client_id: int = 0, *, publish: bool = True) -> None:
        """Have the gateway execute an order in so many fills of one share."""
        venue, server = self.gateway.venue, self.gateway.server

        def _inject() -> None:
            server.publish(venue.advance(server.hub.context.now()))
            con_id = next(iter(venue.search(symbol))).contract.con_id
            made = venue.inject_fills(con_id, count, order_ref, client_id)
            if publish:
                server.publish(made)

        self.gateway.call(_inject)

    def stop_server(self) -> None:
        """Close the gateway's sockets; the venue goes on."""
        asyncio.run_coroutine_threadsafe(self.gateway.server.stop(), self.gateway.loop).result(10)

    def start_server(self) -> None:
        """Listen again."""
        asyncio.run_coroutine_threadsafe(self.gateway.server.start(), self.gateway.loop).result(10)

    def assert_books_equal_broker(self) -> None:
        """Wait until executions, positions and cash of the ledger are the gateway's."""
        until(lambda: self.broker_executions() == ledger_executions(), what="executions agree")
        until(lambda: not Execution.objects.filter(commission=None).exists(), what="commissions are known")
        venue = self.gateway.venue
        held: dict[int, Decimal] = {}
        for con_id, quantity in Position.objects.values_list("instrument_id", "quantity"):
            held[con_id] = held.get(con_id, Decimal(0)) + quantity

        def _truth() -> tuple[dict[int, Decimal], Decimal]:
            now = self.gateway.server.hub.context.now()
            positions = {row.contract.con_id: row.quantity for row in venue.positions(now)}
            values = {(row.key, row.currency): row.value for row in venue.account_values(now)}
            return positions, Decimal(values["CashBalance", "USD"])

        positions, cash = self.gateway.call(_truth)
        assert {key: value for key, value in held.items() if value} == {k: v for k, v in positions.items() if v}
        booked = sum(CashBalance.objects.filter(currency="USD").values_list("amount", flat=True), Decimal(0))
        assert abs(booked - cash) <= Decimal("0.01")


def ledger_executions() -> set[str]:
    """Return the exec ids that the ledger holds."""
    return set(Execution.objects.values_list("exec_id", flat=True))


def position(owner: str, symbol: str) -> Decimal:
    """Return what an owner holds of a ticker."""
    row = Position.objects.filter(owner=owner, instrument__symbol=symbol).first()
    return row.quantity if row is not None else Decimal(0)


def run_state(symbol: str) -> str:
    """Return the state on a strategy's page."""
    row = StrategyRun.objects.filter(symbol=symbol).first()
    return str(row.state) if row is not None else "stopped"


__all__ = ["DISCRETIONARY", "IDLE", "Clock", "Rig", "ledger_executions", "position", "run_state", "until"]
