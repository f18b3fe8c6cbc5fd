"""One complete check of the books against the broker.

Owns: the order of the steps and which answers they need. Leaves: asking (``broker_state``), booking (``portfolio``),
order states (``trading.orders``), when to run (``session``).
Rule: writes are jobs of the message thread, so each step sees everything that was heard before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from portfolio import services as books
from portfolio.facts import AccountRow, BreakFact, BrokerPosition, FoldResult
from portfolio.ledger.reconciliation import compare
from portfolio.models import Account, Break, BreakKind, BreakState
from strategies.exceptions import LedgerError, TransientError
from strategies.models import Strategy
from trading.engine import events
from trading.engine.broker_state import BrokerState, Heard, Orders
from trading.engine.events import Event, EventKind
from trading.engine.gate import Gate
from trading.engine.handlers import report
from trading.engine.message_queue import MessageQueue
from trading.models import Order
from trading.orders import services as orders
from trading.orders.recovery import resolve_unconfirmed

logger = logging.getLogger(__name__)

T = TypeVar("T")

OPENING_TRIES = 20
COMMISSION_WAIT_S = 2.0
COMPARE_TRIES = 6
COMPARE_PAUSE_S = 0.25
_FIGURES = {
    "net_liquidation": "NetLiquidation",
    "cash": "TotalCashValue",
    "unrealized_pnl": "UnrealizedPnL",
    "realized_pnl": "RealizedPnL",
}


class GateHost(Protocol):
    """What the reconciler needs of the engine."""

    gate: Gate


def _now() -> datetime:
    return datetime.now(UTC)


class Reconciler:
    """Runs on the master's loop."""

    def __init__(
        self, host: GateHost, queue: MessageQueue, state: BrokerState, release_fills: Callable[[], None]
    ) -> None:
        self._host = host
        self._queue = queue
        self._state = state
        self._release_fills = release_fills
        self._breaks: dict[int, tuple[Decimal, Decimal]] = {}
        self._figures_stored: list[AccountRow] = []
        self._account_known = False

    async def _job(self, work: Callable[[], T], name: str) -> T:
        result: T = await asyncio.wrap_future(self._queue.submit(work, name))
        return result

    async def cycle(self) -> dict[str, Any]:
        """Run all steps; return what the operator should read.

        Raises: TransientError when the broker's answers are not complete; LedgerError when the books cannot be kept.
        """
        await self._state.subscribe_account()
        await self._store_account()
        with self._state.listening() as heard:
            if await self._job(self._is_opened, "is_opened"):
                await self._state.replay()
            else:
                await self._open_books(heard)
            self._release_fills()
            answers = await self._state.orders()
            await self._job(lambda: self._resolve(answers, heard), "resolve_unconfirmed")
        breaks = await self._compare()
        await self._job(lambda: allocate_missing(self._state.account), "allocate")
        replayed = len(heard.fills)
        message = f"{replayed} executions of the day checked, " + (
            f"{breaks} positions differ from the broker's and are locked." if breaks else "positions agree."
        )
        return {"message": message, "executions": replayed, "breaks": breaks}

    # -- account and opening

    async def _store_account(self) -> None:
        account, base, rows = self._state.account, self._state.base_currency(), self._state.figures()

        def _write() -> None:
            books.ensure_account(account, base)
            books.record_account_values(account, rows, _now())

        await self._job(_write, "account")
        self._account_known = True

    def _is_opened(self) -> bool:
        return Account.objects.filter(account_id=self._state.account, opened_at__isnull=False).exists()

    async def _open_books(self, heard: Heard) -> None:
        """Book opening balances from answers of one moment: positions twice, with nothing heard in between."""
        for _ in range(OPENING_TRIES):
            before = await self._state.positions()
            await self._state.replay()
            await self._state.wait_for_commissions(heard, COMMISSION_WAIT_S)
            known = len(heard.fills)
            await self._state.subscribe_account()
            cash = self._state.cash()
            after = await self._state.positions()
            if _quantities(before) == _quantities(after) and known == len(heard.fills):
                await self._job(lambda: self._book_opening(cash, after, heard), "open_account")  # noqa: B023 - awaited
                return
            await asyncio.sleep(COMPARE_PAUSE_S)
        raise TransientError("The account keeps trading while its books are to be opened.", code="account_busy")

    def _book_opening(self, cash: dict[str, Decimal], positions: Sequence[BrokerPosition], heard: Heard) -> None:
        now = _now()
        result = books.open_account(
            self._state.account,
            cash,
            positions,
            list(heard.fills.values()),
            now,
            owner_of=orders.owner_of,
            commissions=list(heard.commissions.values()),
        )
        write_result(result, now)

    # -- orders

    def _resolve(self, answers: Orders, heard: Heard) -> None:
        now = _now()
        executed = {fill.order_ref for fill in heard.fills.values() if fill.order_ref}
        changed = resolve_unconfirmed(answers.open, answers.completed, executed, now)
        write_orders(changed, now)

    # -- positions

    async def agrees(self) -> bool:
        """Tell whether positions agree, known breaks aside.

        Raises: TransientError when the broker does not answer.
        """
        positions = await self._state.positions()
        return await self._job(lambda: self._differences(positions) == self._breaks, "compare")

    async def _compare(self) -> int:
        """Settle positions: a difference must survive several looks before it becomes a break."""
        for turn in range(COMPARE_TRIES):
            positions = await self._state.positions()
            if not await self._job(lambda: self._differences(positions), "compare"):  # noqa: B023 - awaited here
                break
            await asyncio.sleep(COMPARE_PAUSE_S * (turn + 1))
            await self._state.replay()
        facts = await self._job(lambda: self._record_breaks(positions), "record_breaks")
        for fact in facts:
            logger.warning(
                "break %s symbol=%s ib=%s ledger=%s", fact.state, fact.symbol, fact.ib_quantity, fact.ledger_quantity
            )
        return len(self._breaks)

    def _differences(self, positions: Sequence[BrokerPosition]) -> dict[int, tuple[Decimal, Decimal]]:
        found = compare(_quantities(positions), books.ledger_quantities(self._state.account))
        return {one.con_id: (one.broker_quantity, one.ledger_quantity) for one in found}

    def _record_breaks(self, positions: Sequence[BrokerPosition]) -> list[BreakFact]:
        now = _now()
        books.ensure_instruments([position.contract for position in positions])
        facts = books.compare_positions(self._state.account, _quantities(positions), now)
        events.write([Event(EventKind.BREAK, events.break_payload(fact), at=now) for fact in facts])
        opened = Break.objects.filter(account_id=self._state.account, state=BreakState.OPEN, kind=BreakKind.POSITION)
        self._breaks = {
            row.instrument_id: (row.ib_quantity, row.ledger_quantity) for row in opened if row.instrument_id is not None
        }
        self._host.gate.lock_instruments(self._breaks)
        return facts

    # -- figures

    async def publish_figures(self) -> None:
        """Store the account's figures and report them, when they changed."""
        rows = self._state.figures()
        if not self._account_known or not rows or rows == self._figures_stored:
            return
        account, base = self._state.account, self._state.base_currency()

        def _write() -> None:
            now = _now()
            books.record_account_values(account, rows, now)
            events.emit(EventKind.ACCOUNT, account_payload(rows, base, now))

        await self._job(_write, "account_values")
        self._figures_stored = rows


def account_payload(rows: Sequence[AccountRow], base: str, now: datetime) -> dict[str, Any]:
    """Describe the account's main figures in its base currency; what IB did not say is null."""
    by_tag = {row.tag: row.value for row in rows if row.currency == base}
    figures = {name: by_tag.get(tag) for name, tag in _FIGURES.items()}
    return {**figures, "currency": base, "at": events.iso(now)}


def allocate_missing(account: str) -> list[str]:
    """Give every strategy its initial cash that has none yet; return whose could not be given. Inside a job."""
    waiting: list[str] = []
    now = _now()
    for symbol in Strategy.objects.values_list("symbol", flat=True):
        try:
            amount, currency = books.initial_allocation(account, symbol)
            facts = books.allocate_strategy(account, symbol, amount, currency, now) or []
        except LedgerError as error:
            logger.warning("cash not allocated strategy=%s reason=%s", symbol, error.message)
            waiting.append(symbol)
            continue
        events.write([Event(EventKind.CASH, events.cash_payload(fact), fact.strategy, now) for fact in facts])
    return waiting


def write_result(result: FoldResult, now: datetime) -> None:
    """Move the orders of new executions and report everything; inside a job."""
    changed = orders.record_executions(result.new_executions, now) if result.new_executions else []
    events.write(report(result, changed, now))


def write_orders(changed: Sequence[Order], now: datetime) -> None:
    """Report changed orders; inside a job."""
    events.write([Event(EventKind.ORDER, events.order_payload(row), row.owner, now) for row in changed])


def _quantities(positions: Sequence[BrokerPosition]) -> dict[int, Decimal]:
    return {position.contract.con_id: position.quantity for position in positions}
