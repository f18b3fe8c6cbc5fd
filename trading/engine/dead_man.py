"""The dead-man switch: what is done at the gateway when the engine has died.

Owns: telling that an engine died, cancelling everything, closing every position, over a connection of its own.
Leaves: the loop and the words (``watch_engine``). Rule: it acts around the books, because they may be gone: the engine
that comes back folds what happened. It halts first, so that nothing trades into it. Closing orders name their strategy
where the books say plainly whose a position is; else they are Discretionary.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db import DatabaseError
from django.utils import timezone
from ib_async import Contract, MarketOrder

from portfolio.models import Position
from strategies.models import DISCRETIONARY
from trading.engine.pulse import Pulse
from trading.ib.connection import IBConnection
from trading.ib.mapping import to_decimal
from trading.ib.requests import ask_in_turn, cancel_everything
from trading.models import EngineLease
from trading.orders.refs import new_ref

logger = logging.getLogger(__name__)

ALERT, CANCEL, FLATTEN = "alert", "cancel", "flatten"
ACTIONS = (ALERT, CANCEL, FLATTEN)
ANSWER_S, CANCEL_WAIT_S, CLOSE_WAIT_S = 10.0, 15.0, 30.0
ROUNDS = 4
_SMART = frozenset({"STK", "OPT"})


@dataclass(frozen=True, slots=True)
class Silence:
    """How long the engine gave no sign of life, and whether one should be there. Units: ``seconds``."""

    seconds: float
    expected: bool
    source: str


def silence(pulse: Pulse) -> Silence:
    """Return how long the engine is silent: by its lease and its pulse, whichever is younger; by the pulse alone while
    the database cannot be read. An engine that was stopped in order is not expected.
    """
    age = pulse.age_s()
    try:
        lease = EngineLease.objects.filter(name="engine").first()
    except DatabaseError as error:
        logger.warning("lease not read reason=%s", error)
        return Silence(age or 0.0, age is not None, "pulse")
    if lease is None or not lease.holder or lease.heartbeat_at is None:
        return Silence(0.0, expected=False, source="lease")
    beat = max(0.0, (timezone.now() - lease.heartbeat_at).total_seconds())
    return Silence(beat if age is None else min(beat, age), expected=True, source="lease")


@dataclass(slots=True)
class Deed:
    """What was done: how long until nothing was left (None: something was), and what was left."""

    done_s: float | None = None
    left_orders: int = 0
    left_positions: int = 0
    sent: list[str] = field(default_factory=list)
    error: str = ""


async def act(connection: IBConnection, action: str) -> Deed:
    """Cancel everything, and close every position where ``action`` is flatten; the connection is made and ended here.

    Raises: TransientError while there is no gateway; ConfigError when the account must not be used.
    """
    deed, began = Deed(), time.monotonic()
    await connection.connect_once()
    try:
        deed.left_orders = await cancel_everything(connection.ib, wait_s=CANCEL_WAIT_S, answer_s=ANSWER_S)
        if action == FLATTEN:
            deed.left_positions = await _flatten(connection, deed)
        if not (deed.left_orders or deed.left_positions):
            deed.done_s = round(time.monotonic() - began, 3)
    finally:
        connection.disconnect()
    return deed


async def _flatten(connection: IBConnection, deed: Deed) -> int:
    """Close what IB holds, look again, and close what came meanwhile; return how many positions are left."""
    for _ in range(ROUNDS):
        still_working = await _working(connection)
        held = [row for row in await _positions(connection) if row[0].conId not in still_working]
        if not held:
            break  # flat, or what works still could turn around what would be closed beside it
        trades = []
        for contract, quantity in held:
            for owner, part in await asyncio.to_thread(_shares, contract.conId, quantity):
                trades.append(_close(connection, contract, owner, part, deed))
        if not await _all_done(trades):
            break  # an order still works: another one beside it could turn the position around
    return len(await _positions(connection))


async def _working(connection: IBConnection) -> set[int]:
    """Return the contracts in which orders work, legs of combinations included."""
    ib: Any = connection.ib
    trades = await ask_in_turn(ib, ib.reqAllOpenOrdersAsync, "open orders", timeout_s=ANSWER_S)
    legs = {leg.conId for trade in trades for leg in trade.contract.comboLegs or ()}
    return {trade.contract.conId for trade in trades} | legs


async def _all_done(trades: list[Any]) -> bool:
    """Wait until every order has ended, at most so long; tell whether they have."""
    changed = asyncio.Event()
    for trade in trades:
        trade.statusEvent += lambda _: changed.set()
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_WAIT_S):
            while not all(trade.isDone() for trade in trades):
                changed.clear()
                await changed.wait()
    return all(trade.isDone() for trade in trades)


async def _positions(connection: IBConnection) -> list[tuple[Contract, Decimal]]:
    ib: Any = connection.ib
    rows = await ask_in_turn(ib, ib.reqPositionsAsync, "positions", timeout_s=ANSWER_S)
    last = {row.contract.conId: row for row in rows if row.account == connection.account}
    return [(row.contract, to_decimal(row.position)) for row in last.values() if row.position]


def _shares(con_id: int, quantity: Decimal) -> list[tuple[str, Decimal]]:
    """Return by owner what makes up IB's position, where the books agree with it and nobody stands against it."""
    try:
        rows = Position.objects.filter(instrument_id=con_id).exclude(quantity=0).values_list("owner", "quantity")
        shares = list(rows)
    except DatabaseError:
        shares = []
    agrees = sum((part for _, part in shares), Decimal(0)) == quantity
    if agrees and all(part * quantity > 0 for _, part in shares):
        return shares
    return [(DISCRETIONARY, quantity)]


def _close(connection: IBConnection, contract: Contract, owner: str, held: Decimal, deed: Deed) -> Any:
    order = MarketOrder("SELL" if held > 0 else "BUY", float(abs(held)))
    order.orderRef = "" if owner == DISCRETIONARY else new_ref(owner)
    order.account, order.tif = connection.account, "DAY"
    meant = Contract(
        conId=contract.conId,
        symbol=contract.symbol,
        secType=contract.secType,
        currency=contract.currency,
        exchange="SMART" if contract.secType in _SMART else contract.exchange or "SMART",
    )
    deed.sent.append(f"{order.action} {abs(held):f} {contract.symbol} ({owner})")
    return connection.ib.placeOrder(meant, order)
