"""Closing positions for the kill switch, while fills go on arriving.

Owns: the rounds (compare, close, look again), the watch over closing orders while they work.
Leaves: the halt and the cancels before it (``kill``), the way of an order (``trade_manager``), the books.
Rule: a closing order never does more than close. It is sized by the position of its moment; when a fill that is not its
own takes a part of that position away, it is withdrawn and what is left is closed anew. It is over when IB and the
books say flat, and still say so a moment later, or when nothing could be closed in a round.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from django.db import DatabaseError

from strategies.exceptions import LedgerError, MatsError
from trading.engine.standing import ACCOUNT
from trading.orders.db_threads import in_db_thread
from trading.orders.tickets import LiveTicket

if TYPE_CHECKING:
    from portfolio.queries import PositionView
    from trading.engine.manager import StrategyManager

logger = logging.getLogger(__name__)

CLOSE_WAIT_S, BOOKED_WAIT_S = 20.0, 15.0
FLATTEN_FOR_S = 60.0  # no new round after that: somebody trades against it
SETTLE_S = 1.0
_LOOK_S = 0.05


@dataclass(slots=True)
class Closing:
    """What came of it. ``left`` are positions by owner and contract that are not flat."""

    closed: list[str] = field(default_factory=list)
    left: dict[str, dict[str, str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def flatten(engine: StrategyManager, owner: str) -> Closing:
    """Close what an owner holds, or everybody (empty); blocks its thread.

    Raises: TransientError while there is no master; LedgerError (ledger_behind) when the books do not catch up.
    """
    closing, deadline = Closing(), time.monotonic() + FLATTEN_FOR_S
    while held := _looked_at(engine, owner, closing) or _stirred(engine, owner, closing):
        if time.monotonic() > deadline:
            break
        closing.errors = {key: text for key, text in closing.errors.items() if "/" in key}  # of the round before
        if not engine.session.run(partial(_close_all, engine, held, closing), CLOSE_WAIT_S * 2):
            break
    for row in _held(engine, owner):
        closing.left.setdefault(row.owner, {})[row.symbol] = f"{row.quantity:f}"
    return closing


def _looked_at(engine: StrategyManager, owner: str, closing: Closing) -> list[PositionView]:
    """Return what is held by books that were just compared: a hung strategy has not told of its last fills, and a
    report may be lost.
    """
    closing.errors.pop("books/IB", None)
    try:
        engine.session.reconcile()
    except MatsError as error:
        closing.errors["books/IB"] = f"The books could not be compared: {error.message}"
    return _held(engine, owner)


def _stirred(engine: StrategyManager, owner: str, closing: Closing) -> list[PositionView]:
    """Return what is held a moment after all was flat: fills that were on their way come late."""
    over = time.monotonic() + SETTLE_S
    while time.monotonic() < over:
        if held := _held(engine, owner):
            return held
        time.sleep(_LOOK_S)
    return _looked_at(engine, owner, closing)


def _held(engine: StrategyManager, owner: str) -> list[PositionView]:
    """Return what is held after everything that was heard so far is booked.

    Raises: LedgerError (ledger_behind) when the books do not catch up.
    """
    try:
        engine.message_queue.submit(lambda: None, "flatten").result(BOOKED_WAIT_S)
    except TimeoutError as error:
        raise LedgerError("The books are behind the broker; positions are not known.", code="ledger_behind") from error
    rows = engine.portfolio_manager.get_positions(force_refresh=True)
    return [row for row in rows if row.quantity and owner in (ACCOUNT, row.owner)]


async def _close_all(engine: StrategyManager, rows: Sequence[PositionView], closing: Closing) -> bool:
    """Send one closing order for each position and wait for their ends; tell whether another round may do more."""
    return any(await asyncio.gather(*(_close(engine, row, closing) for row in rows)))


async def _close(engine: StrategyManager, row: PositionView, closing: Closing) -> bool:
    """Close one position; tell whether something of it was closed, or something came in between."""
    what = f"{row.owner} {row.symbol}"
    close_out = engine.trade_manager.close_out
    try:
        ticket = await close_out(row.owner, row.con_id, row.symbol, row.sec_type, row.currency, row.quantity)
    except MatsError as error:
        closing.errors[what] = error.message
        return False
    is_withdrawn = await _watch(engine, row, ticket)
    if not ticket.is_done:
        closing.errors[what] = f"{ticket.order_ref} works on; it was not filled in time."
        return False
    if ticket.filled:
        closing.closed.append(ticket.order_ref)
    elif not is_withdrawn:
        closing.errors[what] = f"{ticket.order_ref} ended unfilled: {ticket.reason or ticket.state}."
    return bool(ticket.filled) or is_withdrawn


async def _watch(engine: StrategyManager, row: PositionView, ticket: LiveTicket) -> bool:
    """Wait for the end of a closing order; withdraw it, and tell so, once it would turn the position around."""
    deadline, is_withdrawn = time.monotonic() + CLOSE_WAIT_S, False
    while not await ticket.wait_done(_LOOK_S) and time.monotonic() < deadline:
        if not is_withdrawn and await _is_too_much(engine, row, ticket):
            is_withdrawn = True
            logger.warning("closing order withdrawn order_ref=%s: the position changed under it", ticket.order_ref)
            with suppress(MatsError):  # it ended just now
                await engine.trade_manager.withdraw(ticket.order_ref)
    return is_withdrawn


async def _is_too_much(engine: StrategyManager, row: PositionView, ticket: LiveTicket) -> bool:
    """Tell whether what is left of a closing order is more than the position that it closes.

    The books are never ahead of the ticket, so that its own fills cannot look like another's.
    """
    try:
        held = await in_db_thread(engine.risk.account.position, row.owner, row.con_id)
    except (DatabaseError, LedgerError) as error:
        logger.warning("position not read owner=%s con_id=%s reason=%s", row.owner, row.con_id, error)
        return False
    left = ticket.progress.quantity - ticket.filled
    towards = held if row.quantity > 0 else -held
    return left > max(towards, Decimal(0))
