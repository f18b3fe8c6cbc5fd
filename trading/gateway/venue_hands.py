"""What happens at the paper venue without a client asking: people at TWS, the back office, faults, measurements.

Owns: orders and trades typed into TWS, cash and positions that move alone, corrections, injected fills, lost facts.
Leaves: working orders (``exchange_orders``), what is stored (``exchange_state``), when it happens (``faults``, tests).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from trading.gateway.exchange_orders import OrderDesk
from trading.gateway.exchange_state import VenueState
from trading.gateway.instruments import InstrumentTable
from trading.gateway.market import Market
from trading.gateway.model import AccountChanged, OrderRequest, PositionChanged, RequestError, VenueEvent

if TYPE_CHECKING:
    from trading.gateway.exchange import VenueOptions


class VenueHands:
    """The part of the venue that nobody asks for on the wire. Not thread-safe."""

    _options: VenueOptions
    _table: InstrumentTable
    _market: Market
    _state: VenueState
    _desk: OrderDesk
    _now: datetime | None

    def _touch(self, now: datetime) -> None:
        raise NotImplementedError

    def _saved(self, events: list[VenueEvent]) -> list[VenueEvent]:
        raise NotImplementedError

    def save(self) -> None:
        """Persist everything that a restart must keep."""
        raise NotImplementedError

    def next_order_id(self, client_id: int) -> int:
        """Return the client's next order id."""
        raise NotImplementedError

    def inject_fills(
        self,
        con_id: int,
        n: int,
        order_ref: str,
        client_id: int,
        qty: Decimal | int = 1,
        price: Decimal | None = None,
        action: str = "BUY",
    ) -> list[VenueEvent]:
        """One order of a client that is filled in ``n`` executions at once, for measurements and tests."""
        now = self._begun()
        contract = self._table.get(con_id).contract
        request = OrderRequest(
            client_id=client_id,
            order_id=self.next_order_id(client_id),
            contract=contract,
            action=action,
            quantity=Decimal(qty) * n,
            order_type="MKT",
            order_ref=order_ref,
            account=self._options.account,
        )
        at = price if price is not None else self._market.mark(con_id, now)
        return self._saved(self._desk.inject(con_id, n, request, Decimal(qty), at, now))

    def book_cash(self, currency: str, amount: Decimal) -> list[VenueEvent]:
        """A deposit, dividend, interest or fee: cash that no execution explains."""
        self._state.book_cash(currency, amount)
        return self._saved([AccountChanged()])

    def move_position(self, con_id: int, quantity: Decimal) -> list[VenueEvent]:
        """A corporate action or transfer: a position that moves by ``quantity`` without an execution."""
        self._state.move_holding(self._table.get(con_id).contract, quantity)
        return self._saved([PositionChanged(con_id), AccountChanged()])

    def place_manual(self, request: OrderRequest, now: datetime) -> list[VenueEvent]:
        """An order that somebody typed into TWS: client 0, order id 0 until client 0 binds it, then a negative one.

        Client and order id of ``request`` do not matter. It works like any other; its events are for client 0 and the
        master, and nobody can change or cancel it through the API before it is bound.
        Raises: RequestError with what TWS would show to that person.
        """
        self._touch(now)
        return self._saved(self._desk.place_manual(request, now))

    def cancel_by_hand(self, perm_id: int, now: datetime) -> list[VenueEvent]:
        """Somebody cancels an order in TWS, whoever placed it.

        Raises: RequestError when no such order works.
        """
        self._touch(now)
        return self._saved(self._desk.cancel_by_hand(perm_id, now))

    def trade_by_hand(self, con_id: int, quantity: Decimal, price: Decimal | None = None) -> list[VenueEvent]:
        """A market order that somebody typed into TWS: client 0, a negative order id, no reference."""
        now = self._begun()
        request = OrderRequest(
            client_id=0,
            order_id=self._state.next_manual_id(),
            contract=self._table.get(con_id).contract,
            action="BUY" if quantity > 0 else "SELL",
            quantity=abs(quantity),
            order_type="MKT",
            account=self._options.account,
        )
        at = price if price is not None else self._market.mark(con_id, now)
        return self._saved(self._desk.inject(con_id, 1, request, abs(quantity), at, now))

    def correct(
        self, exec_id: str, *, quantity: Decimal | None = None, price: Decimal | None = None
    ) -> list[VenueEvent]:
        """IB's correction of an execution: the same id with the next revision.

        Raises: RequestError when the day has no such execution.
        """
        known = [entry.execution for entry in self._state.executions if entry.execution.exec_id == exec_id]
        if not known:
            raise RequestError(200, f"There is no execution {exec_id}.")
        size = known[0].quantity if quantity is None else quantity
        return self._saved(self._desk.correct(exec_id, size, known[0].price if price is None else price, self._begun()))

    def withhold_commissions(self, withhold: bool) -> None:
        """Report no commission until told otherwise."""
        self._desk.commissions_withheld = withhold

    def forget_executions(self) -> None:
        """Lose the day's executions, as a gateway that was set up anew."""
        self._state.forget_executions()
        self._saved([])

    def roll_back_ids(self, by: int) -> None:
        """Know nothing of every client's last order ids, as after a restart from an older state."""
        self._state.roll_back_ids(by)
        self.save()

    def reject_working(self, order_ref: str | None, code: int, text: str) -> list[VenueEvent]:
        """Refuse an accepted order after all: the newest that works, or the newest of a reference.

        Raises: RequestError when none works.
        """
        working = [o for o in self._state.working.values() if order_ref in (None, o.request.order_ref)]
        if not working:
            raise RequestError(135, f"No order of {order_ref or 'anybody'} works.")
        return self._saved(self._desk.reject(working[-1], code, text, self._begun()))

    def fill_order(self, order_ref: str | None, quantity: Decimal, price: Decimal | None = None) -> list[VenueEvent]:
        """Execute ``quantity`` of the newest order, or the newest of a reference, whatever it asked for.

        Raises: RequestError when the day has none.
        """
        known = [o for o in self._state.by_perm.values() if order_ref in (None, o.request.order_ref)]
        if not known:
            raise RequestError(135, f"There is no order of {order_ref or 'anybody'}.")
        return self._saved(self._desk.fill_order(known[-1], quantity, price, self._begun()))

    def _begun(self) -> datetime:
        if self._now is None:
            raise RuntimeError("the venue has not started: advance it once")
        return self._now
