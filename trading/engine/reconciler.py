"""One complete check of the books against the broker.

Owns: the order of the steps and which answers they need. Leaves: asking (``broker_state``), booking (``portfolio``),
order states (``trading.orders``), when cash counts (``cash_check``), the day's executions (``day_check``), alerts
(``check_alerts``), when to run (``session``).
Rule: writes are jobs of the message thread, so each step sees everything that was heard before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from portfolio import services as books
from portfolio.causes import BrokerDay
from portfolio.facts import AccountRow, BrokerPosition, FoldResult
from portfolio.instruments import UNDESCRIBED
from portfolio.ledger.reconciliation import compare
from portfolio.models import Account, Break, BreakKind, BreakState
from strategies import audit
from strategies.crashpoints import reach
from strategies.events import ContractSnapshot
from strategies.exceptions import LedgerError, TransientError
from trading.engine import events
from trading.engine.broker_state import AccountAnswer, BrokerState, Heard, Orders
from trading.engine.cash_check import CashCheck, CashLook, CheckTimes
from trading.engine.check_alerts import (
    clear_settled,
    report_breaks,
    report_contradictions,
    report_day,
    report_waiting,
)
from trading.engine.day_check import look_at_day, settle_day
from trading.engine.events import Event, EventKind
from trading.engine.gate import Gate
from trading.engine.handlers import report
from trading.engine.message_queue import MessageQueue
from trading.models import Order
from trading.orders import services as orders
from trading.orders.db_threads import in_db_thread
from trading.orders.recovery import resolve_unconfirmed

logger = logging.getLogger(__name__)

T = TypeVar("T")

OPENING_TRIES = 20
COMMISSION_WAIT_S = 2.0
COMPARE_TRIES = 6
CASH_TRIES = 3
WHOLE_DAY_EVERY = timedelta(hours=1)
OVERLAP = timedelta(minutes=10)  # of two replays that follow each other: clocks differ, reports come late
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
        self,
        host: GateHost,
        queue: MessageQueue,
        state: BrokerState,
        release_fills: Callable[[], None],
        times: CheckTimes | None = None,
    ) -> None:
        self._host = host
        self._queue = queue
        self._state = state
        self._release_fills = release_fills
        self._times = times or CheckTimes()
        self._cash = CashCheck("", self._times)
        self._day: BrokerDay | None = None
        self._agreed_at: datetime | None = None  # the books and a replay last agreed on all executions until then
        self._whole_at: datetime | None = None  # and that replay was of the whole day
        self._breaks: dict[int, tuple[Decimal, Decimal]] = {}
        self._cash_breaks = 0
        self._figures_stored: list[AccountRow] = []
        self._account_known = False

    async def _job(self, work: Callable[[], T], name: str) -> T:
        result: T = await asyncio.wrap_future(self._queue.submit(work, name))
        return result

    async def cycle(self, *, whole: bool = True) -> dict[str, Any]:
        """Run all steps; return what the operator should read.

        Without ``whole`` only executions since the last check are asked for, when that one agreed and a whole one was
        made within the hour: on a busy day each whole one repeats everything.
        Raises: TransientError when the broker's answers are not complete; LedgerError when the books cannot be kept.
        """
        await self._state.subscribe_account()
        await self._store_account()
        self._cash.account = self._state.account
        is_opened = await self._job(self._is_opened, "is_opened")
        with self._state.listening(whole=not is_opened) as heard:
            asked_at = _now()
            since = None if whole or not is_opened else self._since(asked_at)
            if is_opened:
                self._release_fills()  # before the replay: else a day's executions would wait in memory for its end
                await self._state.replay(since)
            else:
                await self._open_books(heard)
                self._release_fills()
            answers = await self._state.orders()
            await self._job(lambda: self._resolve(answers, heard), "resolve_unconfirmed")
        unknown = await self._job(books.parked_contracts, "parked_contracts")
        await self._learn(unknown)
        await self._job(lambda: self._retry_parked({one.con_id for one in unknown}), "retry_parked")
        day = self._day = await self._compare_day(heard, asked_at, since)
        breaks = await self._compare()
        waiting = await self._compare_cash()
        await self._job(lambda: self._finish(day), "checked")
        replayed = len(heard.replayed.marks)
        period = "of the day" if since is None else f"since {since:%H:%M} UTC"
        message = f"{replayed} executions {period} checked, " + (
            f"{breaks} positions differ from the broker's and are locked." if breaks else "positions agree."
        )
        return {
            "message": message,
            "executions": replayed,
            "breaks": breaks,
            "cash_breaks": self._cash_breaks,
            "cash_waiting": waiting,
            "missing": len(day.missing),
            "unconfirmed": len(day.unconfirmed),
        }

    def _finish(self, day: BrokerDay) -> None:
        now = _now()
        report_day(day, now)
        reach("reconcile")
        books.note_reconciled(self._state.account, now)
        allocate_missing(self._state.account)

    def _retry_parked(self, asked: Collection[int]) -> None:
        """Try anew what could not be booked: its reason may be gone. IB was ``asked`` to describe these contracts."""
        now = _now()
        outcome = books.retry_parked(self._state.account, orders.owner_of, now)
        for result in outcome.results:
            write_result(result, now)
        report_waiting((row for row in outcome.waiting if row.code != UNDESCRIBED or row.con_id in asked), now)
        clear_settled(now)

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
            answer = await self._state.subscribe_account()
            after = await self._state.positions()
            if _quantities(before) == _quantities(after) and known == len(heard.fills):
                await self._learn([row.contract for row in after] + [fill.contract for fill in heard.fills.values()])
                await self._job(lambda: self._book_opening(answer, after, heard), "open_account")  # noqa: B023 - awaited
                return
            await asyncio.sleep(self._times.look_pause_s)
        raise TransientError("The account keeps trading while its books are to be opened.", code="account_busy")

    async def _learn(self, contracts: Iterable[ContractSnapshot]) -> None:
        """Have IB describe contracts that may be quoted in pence or cents, so that their prices become money."""
        heard = {one.con_id: one for one in contracts if one.con_id > 0}
        unknown = await self._job(lambda: books.undescribed_contracts(heard.values()), "undescribed")
        told = await self._state.describe(unknown)
        if told:
            await self._job(lambda: books.describe_contracts(told), "describe")

    def _book_opening(self, answer: AccountAnswer, positions: Sequence[BrokerPosition], heard: Heard) -> None:
        now = _now()
        result = books.open_account(
            self._state.account,
            answer.cash(),
            positions,
            list(heard.fills.values()),
            now,
            owner_of=orders.owner_of,
            commissions=list(heard.commissions.values()),
            marks=answer.marks,
        )
        write_result(result, now)

    # -- orders

    def _resolve(self, answers: Orders, heard: Heard) -> None:
        now = _now()
        changed = resolve_unconfirmed(answers.open, answers.completed, heard.order_refs, now)
        write_orders(changed, now)

    # -- the day's executions

    def _since(self, asked_at: datetime) -> datetime | None:
        """Return from when on executions need to be repeated; None: all of the day."""
        agreed_at, whole_at = self._agreed_at, self._whole_at
        if agreed_at is None or whole_at is None or asked_at - whole_at >= WHOLE_DAY_EVERY:
            return None
        return agreed_at - OVERLAP

    async def _compare_day(self, heard: Heard, asked_at: datetime, since: datetime | None) -> BrokerDay:
        """Compare the executions of the day; a difference counts when a second replay, of the whole day, has it too."""
        first = await in_db_thread(look_at_day, self._state.account, heard.replayed, asked_at, _now(), since)
        if first.agrees:
            self._agreed_at = asked_at
            if since is None:
                self._whole_at = asked_at
            return BrokerDay({}, first.since)
        self._agreed_at = None
        await asyncio.sleep(self._times.look_pause_s)
        with self._state.listening(whole=False, wanted=first.missing) as again:
            asked_at = _now()
            await self._state.replay()
            await self._job(_nothing, "day")  # so that what was just heard is in the books
        second = await in_db_thread(look_at_day, self._state.account, again.replayed, asked_at, _now())
        return await in_db_thread(settle_day, first, second, again.replayed.named)

    # -- positions and cash

    async def agrees(self) -> bool:
        """Tell whether positions and cash agree, known breaks aside.

        Raises: TransientError when the broker does not answer; LedgerError when a contract contradicts the books.
        """
        asked_at = _now()
        positions = await self._state.positions()
        found = await self._job(lambda: self._look(positions), "compare")
        if found != self._breaks and not self._differing(found) <= await self._moving(asked_at):
            return False
        answer = await self._state.subscribe_account()
        return not self._cash.needs_check(await in_db_thread(self._cash.look, answer, _now()))

    async def _compare(self) -> int:
        """Settle positions; before orders may flow the record is of books that did not move since the look."""
        for _ in range(COMPARE_TRIES):
            if await self._settle_positions() or self._host.gate.is_open:
                break
        return len(self._breaks)

    async def _settle_positions(self) -> bool:
        """Look and record: a difference must survive several looks before it becomes a break.

        Tell False when a fill came in between, so that its contract was left as it was.
        """
        moving: frozenset[int] = frozenset()
        for turn in range(COMPARE_TRIES):
            asked_at = _now()
            positions = await self._state.positions()
            found = await self._job(lambda: self._look(positions), "compare")  # noqa: B023 - awaited here
            if not found or found == self._breaks:
                break
            # Before orders may flow nothing is exempt: what a replay has just brought looks as if it moved.
            if self._host.gate.is_open and self._differing(found) <= (moving := await self._moving(asked_at)):
                break
            await asyncio.sleep(self._times.look_pause_s * (turn + 1))
            await self._state.replay()
        return await self._job(lambda: self._record_breaks(positions, found, moving), "record_breaks")

    def _differing(self, found: dict[int, tuple[Decimal, Decimal]]) -> set[int]:
        """Return the contracts in which a look differs from the known breaks."""
        return {con_id for con_id in {*found, *self._breaks} if found.get(con_id) != self._breaks.get(con_id)}

    async def _moving(self, since: datetime) -> frozenset[int]:
        """Return the contracts that traded while positions were asked for: answer and books are not of one moment.

        One whose execution was lost is none of them once it rests, and a full check brings it.
        """
        await asyncio.sleep(self._times.look_pause_s)
        return await in_db_thread(books.moving_contracts, self._state.account, since)

    def _look(self, positions: Sequence[BrokerPosition]) -> dict[int, tuple[Decimal, Decimal]]:
        books.ensure_instruments([position.contract for position in positions])
        books.store_holdings(self._state.account, positions, _now())
        reach("reconcile")
        found = compare(_quantities(positions), books.ledger_quantities(self._state.account))
        return {one.con_id: (one.broker_quantity, one.ledger_quantity) for one in found}

    def _record_breaks(
        self,
        positions: Sequence[BrokerPosition],
        found: dict[int, tuple[Decimal, Decimal]],
        moving: frozenset[int],
    ) -> bool:
        """Record what the look found; tell whether that was all.

        What differs otherwise by now was filled since, and IB's answer is older than that: it opens no break.
        """
        now = _now()
        quantities = _quantities(positions)
        differing = {
            one.con_id: (one.broker_quantity, one.ledger_quantity)
            for one in compare(quantities, books.ledger_quantities(self._state.account))
        }
        filled = {con_id for con_id, pair in differing.items() if pair != found.get(con_id)}
        facts = books.compare_positions(self._state.account, quantities, now, day=self._day, moving=moving | filled)
        report_breaks(facts, now)
        reach("reconcile")
        opened = Break.objects.filter(account_id=self._state.account, state=BreakState.OPEN, kind=BreakKind.POSITION)
        self._breaks = {
            row.instrument_id: (row.ib_quantity, row.ledger_quantity) for row in opened if row.instrument_id is not None
        }
        self._host.gate.lock_instruments(self._breaks)
        return not filled

    async def _compare_cash(self) -> str:
        """Settle cash in the same way; return what it waits for, empty when it was compared."""
        try:
            for turn in range(CASH_TRIES):
                answer = await self._state.subscribe_account()
                look = await in_db_thread(self._cash.look, answer, _now())
                self._cash.needs_check(look)
                if look.waiting or not look.differs:
                    break
                if turn + 1 < CASH_TRIES:
                    await asyncio.sleep(self._times.look_pause_s * (turn + 1))
                    await self._state.replay()
        except TransientError as error:
            return error.message  # cash holds nothing up: positions are settled
        self._cash_breaks = await self._job(lambda: self._record_cash(answer, look), "record_cash_breaks")
        return look.waiting

    def _record_cash(self, answer: AccountAnswer, look: CashLook) -> int:
        found = self._cash.record(answer, look, self._day, _now())
        reach("reconcile")
        return found

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
    for symbol in books.without_allocation(account):  # those that have theirs cost nothing: this runs at every start
        try:
            amount, currency = books.initial_allocation(account, symbol, now)
            facts = books.allocate_strategy(account, symbol, amount, currency, now)
        except LedgerError as error:
            logger.warning("cash not allocated strategy=%s reason=%s", symbol, error.message)
            waiting.append(symbol)
            continue
        if facts:
            given = {"account": account, "amount": amount, "currency": currency}
            audit.record("cash.allocated", symbol, actor="MATS", source=audit.ENGINE, after=given, now=now)
            events.write([Event(EventKind.CASH, events.cash_payload(fact), fact.strategy, now) for fact in facts])
    return waiting


def write_result(result: FoldResult, now: datetime) -> None:
    """Move the orders of new executions and report everything; inside a job."""
    report_contradictions(result.contradictions, now)
    changed = orders.record_executions(result.new_executions, now) if result.new_executions else []
    events.write(report(result, changed, now))


def write_orders(changed: Sequence[Order], now: datetime) -> None:
    """Report changed orders; inside a job."""
    events.write([Event(EventKind.ORDER, events.order_payload(row), row.owner, now) for row in changed])


def _nothing() -> None:
    """Take a turn in the queue."""


def _quantities(positions: Sequence[BrokerPosition]) -> dict[int, Decimal]:
    return {position.contract.con_id: position.quantity for position in positions}
