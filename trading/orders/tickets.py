"""A placed order in the hands of its strategy: our own state of it, fed by the connection's capture.

Rule: same loop only. ib_async's Trade dies with its connection and can be un-finished by a warning; a ticket lives on
and is done when our own states say so.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

from ib_async import IB, Contract, Order, Trade

from strategies.combos import COMBINATION
from strategies.events import FillSnapshot, StatusSnapshot, TradeSnapshot
from trading.ib.codes import order_verdict
from trading.ib.mapping import legs_of
from trading.ib.tap import WireTap
from trading.orders.combos import add_up, units_filled
from trading.orders.progress import Progress, add_fill, on_error, on_status, with_fills, with_quantity
from trading.orders.state import OrderState, can_move


class LiveTicket:
    """One order of ours; implements ``strategies.ports.Ticket``."""

    def __init__(self, ib: IB, order_ref: str, contract: Contract, order: Order, quantity: Decimal) -> None:
        self.progress = Progress(OrderState.INTENT, quantity)
        self.placed_at = asyncio.get_running_loop().time()
        self._ib = ib
        self._order_ref = order_ref
        self._contract = contract
        self._order = order
        self._trade: Trade | None = None
        self._legs = legs_of(contract)
        self._fills: dict[str, FillSnapshot] = {}  # by execution family: a correction replaces what it corrects
        self._done = asyncio.Event()

    def __repr__(self) -> str:
        return f"LiveTicket({self._order_ref}, {self.state}, {self.progress.filled:f}/{self.progress.quantity:f})"

    @property
    def order_ref(self) -> str:
        """Return our own reference."""
        return self._order_ref

    @property
    def contract(self) -> Contract:
        """Return the qualified contract."""
        return self._contract

    @property
    def order(self) -> Order:
        """Return the order as sent."""
        return self._order

    @property
    def trade(self) -> Trade:
        """Return ib_async's trade: the one of the present connection, if it knows the order, else the last one."""
        live = WireTap.of(self._ib).find_trade(self._order.clientId, self._order.orderId, self._order.permId)
        if live is not None:
            self._trade = live
        if self._trade is None:
            self._trade = Trade(self._contract, self._order)
        return self._trade

    @trade.setter
    def trade(self, trade: Trade) -> None:
        self._trade = trade

    @property
    def state(self) -> OrderState:
        """Return our own state of the order."""
        return self.progress.state

    @property
    def filled(self) -> Decimal:
        """Return how much was executed."""
        return self.progress.filled

    @property
    def average_price(self) -> Decimal | None:
        """Return the average price of the executions; None without one."""
        return self.progress.average_price

    @property
    def reason(self) -> str:
        """Return why it was refused or cancelled, as far as IB said."""
        return self.progress.reason

    @property
    def is_done(self) -> bool:
        """Tell whether the order is final by our own states."""
        return self.progress.is_done

    async def wait_done(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - the seeds' signature
        """Wait until final; return False when ``timeout`` seconds passed first."""
        try:
            await asyncio.wait_for(self._done.wait(), timeout)
        except TimeoutError:
            return False
        return True

    # evidence, from the broker that owns the ticket

    def take_fill(self, fill: FillSnapshot) -> None:
        """Take an execution in; replays and duplicates change nothing."""
        family, _, revision = fill.exec_id.rpartition(".")
        known = self._fills.get(family)
        if known is not None and known.exec_id.rpartition(".")[2] >= revision:
            return
        if fill.contract.sec_type == COMBINATION:
            return  # its legs say the same, and they are what is held
        self._fills[family] = fill
        if self._legs:
            parts = ((one.contract.con_id, one.quantity, one.price) for one in self._fills.values())
            multipliers = {one.contract.con_id: one.contract.multiplier for one in self._fills.values()}
            self._become(with_fills(self.progress, *units_filled(self._legs, add_up(parts), multipliers)))
            return
        if known is None:
            self._become(add_fill(self.progress, fill.quantity, fill.price))
            return
        filled = sum((part.quantity for part in self._fills.values()), Decimal(0))
        value = sum((part.quantity * part.price for part in self._fills.values()), Decimal(0))
        self._become(with_fills(self.progress, filled, value / filled if filled else None))

    def take_status(self, status: StatusSnapshot) -> None:
        """Take a status or an error in."""
        if status.code:
            verdict = order_verdict(status.code)
            self._become(on_error(self.progress, status.code, status.text, verdict))
        else:
            self._become(on_status(self.progress, status.status, status.filled))

    def take_order(self, trade: TradeSnapshot) -> None:
        """Take in how IB describes the order."""
        after = self.progress
        if trade.quantity:
            after = with_quantity(after, trade.quantity)
        if trade.status in ("PendingSubmit", "PreSubmitted", "Submitted"):
            after = on_status(after, trade.status, trade.filled)
        self._become(after)

    def doubt(self, reason: str) -> None:
        """Take note that nobody answers for the order."""
        if can_move(self.state, OrderState.UNKNOWN):
            self._become(self.progress.ended(OrderState.UNKNOWN, reason))

    def conclude(self, state: OrderState, reason: str) -> None:
        """Take over an end that the books have concluded, where the table allows it."""
        if can_move(self.state, state):
            self._become(self.progress.ended(state, reason))

    def _become(self, progress: Progress) -> None:
        self.progress = progress
        if progress.is_done:
            self._done.set()
        else:
            self._done.clear()
