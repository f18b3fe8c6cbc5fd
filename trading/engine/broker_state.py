"""The questions that the engine asks IB about the account, each with a time limit.

Owns: positions, cash, account figures, orders and executions as IB states them. Leaves: what follows from them.
Rule: an answer counts only when IB ended it; runs on the master's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from portfolio.facts import AccountRow, BrokerPosition
from strategies.events import CommissionSnapshot, FillSnapshot, QueueMessage, TradeSnapshot
from strategies.exceptions import LedgerError
from trading.ib import mapping
from trading.ib.capture import Capture
from trading.ib.connection import IBConnection
from trading.ib.requests import ask, ask_in_turn

ANSWER_S = 15.0
REPLAY_S = 60.0
_CASH_TAGS = ("CashBalance", "TotalCashBalance")


@dataclass(slots=True)
class Heard:
    """Executions and commissions that passed the connection while someone listened."""

    fills: dict[str, FillSnapshot] = field(default_factory=dict)
    commissions: dict[str, CommissionSnapshot] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, message: QueueMessage) -> None:
        """Keep what a message carries."""
        if message["type"] == "fill":
            self.fills[message["fill"].exec_id] = message["fill"]
        elif message["type"] == "commission":
            self.commissions[message["commission"].exec_id] = message["commission"]
            self.news.set()

    @property
    def without_commission(self) -> int:
        """Count executions whose fee is not known yet."""
        return sum(1 for exec_id in self.fills if exec_id not in self.commissions)


@dataclass(frozen=True, slots=True)
class Orders:
    """IB's complete answers about orders: working ones and those completed today."""

    open: list[TradeSnapshot]
    completed: list[TradeSnapshot]


class BrokerState:
    """What IB says about the account, on one connection. Raises TransientError when an answer is not complete."""

    def __init__(self, connection: IBConnection, capture: Capture) -> None:
        self._connection = connection
        self._capture = capture

    @property
    def account(self) -> str:
        """Return the account that is traded."""
        return self._connection.account

    @property
    def _ib(self) -> Any:
        return self._connection.ib

    @contextlib.contextmanager
    def listening(self) -> Iterator[Heard]:
        """Collect executions and commissions that pass meanwhile."""
        heard = Heard()
        self._capture.observers.append(heard.hear)
        try:
            yield heard
        finally:
            self._capture.observers.remove(heard.hear)

    async def subscribe_account(self) -> None:
        """Have IB send the account's figures, from a fresh snapshot on."""
        self._ib.client.reqAccountUpdates(False, self.account)
        await ask(self._ib.reqAccountUpdatesAsync(self.account), "account updates", timeout_s=ANSWER_S)

    def figures(self) -> list[AccountRow]:
        """Return the account's figures as last received."""
        return [AccountRow(value.tag, value.value, value.currency) for value in self._ib.accountValues(self.account)]

    def base_currency(self) -> str:
        """Return the currency that IB states the net liquidation in; empty while unknown."""
        found = [row.currency for row in self.figures() if row.tag == "NetLiquidation" and row.currency != "BASE"]
        return found[0] if found else ""

    def cash(self) -> dict[str, Decimal]:
        """Return cash by currency.

        Raises: LedgerError when IB did not report it.
        """
        rows = self.figures()
        for tag in _CASH_TAGS:
            found = {
                row.currency: Decimal(row.value) for row in rows if row.tag == tag and row.currency not in ("BASE", "")
            }
            if found:
                return found
        raise LedgerError("IB has not reported the account's cash.", code="cash_unknown")

    async def positions(self) -> list[BrokerPosition]:
        """Return all positions of the account, flat ones left out."""
        rows = await self._ask(self._ib.reqPositionsAsync, "positions")
        return [
            BrokerPosition(mapping.contract_snapshot(row.contract), _decimal(row.position), _decimal(row.avgCost))
            for row in rows
            if row.account == self.account and row.position
        ]

    async def replay(self) -> int:
        """Have the day's executions pass the capture again; return how many there were."""
        return await self._capture.replay_executions(REPLAY_S)

    async def wait_for_commissions(self, heard: Heard, timeout_s: float) -> None:
        """Wait until every execution has its commission, at most so long: it may never come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while heard.without_commission:
                    heard.news.clear()
                    await heard.news.wait()

    async def orders(self) -> Orders:
        """Return working and completed orders of all clients."""
        working = await self._ask(self._ib.reqAllOpenOrdersAsync, "open orders")
        completed = await self._ask(lambda: self._ib.reqCompletedOrdersAsync(False), "completed orders")
        return Orders(
            [mapping.trade_snapshot(trade) for trade in working],
            [mapping.trade_snapshot(trade) for trade in completed],
        )

    async def _ask(self, request: Callable[[], Awaitable[Any]], what: str) -> Any:
        return await ask_in_turn(self._ib, request, what, timeout_s=ANSWER_S)


def _decimal(value: float) -> Decimal:
    try:
        return mapping.to_decimal(value)
    except (ValueError, InvalidOperation) as error:
        raise LedgerError(f"IB sent {value!r} for a number.", code="bad_number") from error
