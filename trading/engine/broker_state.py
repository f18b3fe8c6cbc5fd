"""The questions that the engine asks IB about the account, each with a time limit.

Owns: positions, cash, account figures, orders and executions as IB states them. Leaves: what follows from them.
Rule: an answer counts only when IB ended it; runs on the master's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from ib_async import Contract

from portfolio.facts import AccountRow, BrokerPosition
from portfolio.fold import COMBINATION
from strategies.events import CommissionSnapshot, ContractSnapshot, FillSnapshot, QueueMessage, TradeSnapshot
from strategies.exceptions import LedgerError, NotFoundError, TransientError
from trading.engine.day_check import Replayed
from trading.engine.marks import Marks
from trading.ib import mapping
from trading.ib.capture import Capture
from trading.ib.connection import IBConnection
from trading.ib.requests import ask_in_turn, contract_details

logger = logging.getLogger(__name__)

ANSWER_S = 15.0
REPLAY_S = 60.0
_CASH_TAGS = ("CashBalance", "TotalCashBalance")


@dataclass(slots=True)
class Heard:
    """Executions and commissions that passed the connection while someone listened.

    Whole ones are kept only where they are booked from here, at the opening: a day of a million fills is a gigabyte.
    """

    account: str
    whole: bool = True
    replayed: Replayed = field(default_factory=Replayed)  # executions of the account, combinations apart
    order_refs: Marks = field(default_factory=Marks)
    last_ref: str = ""
    fills: dict[str, FillSnapshot] = field(default_factory=dict)
    commissions: dict[str, CommissionSnapshot] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, message: QueueMessage) -> None:
        """Keep what a message carries."""
        if message["type"] == "fill":
            self._hear_fill(message["fill"])
        elif message["type"] == "commission" and self.whole:
            self.commissions[message["commission"].exec_id] = message["commission"]
            self.news.set()

    def _hear_fill(self, fill: FillSnapshot) -> None:
        if fill.order_ref and fill.order_ref != self.last_ref:  # the fills of an order mostly follow each other
            self.order_refs.add(fill.order_ref)
            self.last_ref = fill.order_ref
        if fill.contract.sec_type != COMBINATION and fill.account in ("", self.account):
            self.replayed.take(fill.exec_id, fill.contract.con_id)
        if self.whole:
            self.fills[fill.exec_id] = fill

    @property
    def without_commission(self) -> int:
        """Count executions whose fee is not known yet."""
        return sum(1 for exec_id in self.fills if exec_id not in self.commissions)


@dataclass(frozen=True, slots=True)
class Orders:
    """IB's complete answers about orders: working ones and those completed today."""

    open: list[TradeSnapshot]
    completed: list[TradeSnapshot]


@dataclass(slots=True)
class AccountAnswer:
    """One complete account download: what came between the request and IB's end of it, and nothing older.

    A currency that IB no longer names must not live on from an earlier download; BASE is a sum and no currency.
    """

    account: str
    values: dict[tuple[str, str], str] = field(default_factory=dict)
    marks: dict[int, Decimal] = field(default_factory=dict)

    def take_value(self, value: Any) -> None:
        """Keep one figure of the account."""
        if value.account == self.account and not value.modelCode:
            self.values[value.tag, value.currency] = value.value

    def take_item(self, item: Any) -> None:
        """Keep the price that IB values one position at."""
        price = mapping.to_optional_decimal(item.marketPrice)
        if item.account == self.account and price is not None:
            self.marks[item.contract.conId] = price

    def cash(self) -> dict[str, Decimal]:
        """Return cash by currency.

        Raises: LedgerError when IB did not report it, or something that is no number.
        """
        for wanted in _CASH_TAGS:
            found = {
                currency: _decimal(text)
                for (tag, currency), text in self.values.items()
                if tag == wanted and currency not in ("BASE", "")
            }
            if found:
                return found
        raise LedgerError("IB has not reported the account's cash.", code="cash_unknown")


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
    def listening(self, *, whole: bool = True, wanted: Marks | None = None) -> Iterator[Heard]:
        """Collect executions and commissions that pass meanwhile.

        ``whole`` keeps all that they say; else only executions that are ``wanted`` are named.
        """
        heard = Heard(self.account, whole, Replayed(wanted or Marks()))
        self._capture.observers.append(heard.hear)
        try:
            yield heard
        finally:
            self._capture.observers.remove(heard.hear)

    async def subscribe_account(self) -> AccountAnswer:
        """Have IB send the account's figures, from a fresh snapshot on; return that snapshot once IB has ended it."""
        answer = AccountAnswer(self.account)
        self._ib.accountValueEvent += answer.take_value
        self._ib.updatePortfolioEvent += answer.take_item
        try:
            await ask_in_turn(self._ib, self._ask_account, "account updates", timeout_s=ANSWER_S)
        finally:
            self._ib.accountValueEvent -= answer.take_value
            self._ib.updatePortfolioEvent -= answer.take_item
        return answer

    def _ask_account(self) -> Awaitable[Any]:
        self._ib.client.reqAccountUpdates(False, self.account)
        request: Awaitable[Any] = self._ib.reqAccountUpdatesAsync(self.account)
        return request

    def figures(self) -> list[AccountRow]:
        """Return the account's figures as last received."""
        return [AccountRow(value.tag, value.value, value.currency) for value in self._ib.accountValues(self.account)]

    def base_currency(self) -> str:
        """Return the currency that IB states the net liquidation in; empty while unknown."""
        found = [row.currency for row in self.figures() if row.tag == "NetLiquidation" and row.currency != "BASE"]
        return found[0] if found else ""

    async def positions(self) -> list[BrokerPosition]:
        """Return all positions of the account, flat ones left out.

        Raises: TransientError when the answer is of accounts that this login does not manage.
        """
        rows = await self._ask(self._ib.reqPositionsAsync, "positions")
        managed = {self.account, *self._ib.managedAccounts()}
        foreign = {row.account for row in rows} - managed
        if foreign:
            raise TransientError(
                f"IB answered with positions of {', '.join(sorted(foreign))}, not of {self.account}.",
                code="other_account",
            )
        # A position that changes while IB answers comes twice: the last word counts, also that it is flat.
        last = {row.contract.conId: row for row in rows if row.account == self.account}
        return [
            BrokerPosition(mapping.contract_snapshot(row.contract), _decimal(row.position), _decimal(row.avgCost))
            for row in last.values()
            if row.position
        ]

    async def describe(self, con_ids: Iterable[int]) -> list[ContractSnapshot]:
        """Ask IB how contracts are quoted; return those that it described. One that it does not know waits on."""
        found = []
        for con_id in con_ids:
            try:
                details = await contract_details(self._ib, Contract(conId=con_id), timeout_s=ANSWER_S)
            except (NotFoundError, TransientError) as error:
                logger.warning("contract not described con_id=%s reason=%s", con_id, error.message)
                continue
            found += [mapping.contract_snapshot(row.contract) for row in details if row.contract is not None]
        return [snapshot for snapshot in found if snapshot.price_magnifier is not None]

    async def replay(self, since: datetime | None = None) -> int:
        """Have the day's executions, all or ``since`` a moment, pass the capture again; return how many there were."""
        return await self._capture.replay_executions(REPLAY_S, since=since)

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


def _decimal(value: float | str) -> Decimal:
    try:
        return mapping.to_decimal(value)
    except (ValueError, InvalidOperation) as error:
        raise LedgerError(f"IB sent {value!r} for a number.", code="bad_number") from error
