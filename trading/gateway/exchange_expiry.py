"""What becomes of futures and options on their last day.

Owns: settlement of futures and cash options, exercise and assignment of physical ones, the end of their orders, and
early exercise at a client's request.
Leaves: when a contract settles (``derivative_dates``), booking (``exchange_state``, ``account``).
Rule: as at IB, positions and cash move alone, without an execution. A future leaves at its last price, a cash-settled
option at what it is in the money; a physical one becomes shares at its strike when it is in the money, on both sides,
and leaves at nothing otherwise.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from trading.gateway.account import Holding
from trading.gateway.derivative_dates import expiry_moment
from trading.gateway.exchange_orders import OrderDesk
from trading.gateway.exchange_state import VenueState
from trading.gateway.instruments import InstrumentTable
from trading.gateway.market import Market
from trading.gateway.market_derived import intrinsic
from trading.gateway.model import AccountChanged, PositionChanged, RequestError, VenueEvent

ZERO = Decimal(0)
LOOK_EVERY = timedelta(seconds=1)
_DATED = frozenset({"FUT", "OPT"})
_REFUSED = 322


class Expiries:
    """Ends contracts whose time has come. Not thread-safe."""

    def __init__(self, table: InstrumentTable, market: Market, state: VenueState, desk: OrderDesk) -> None:
        self._table, self._market, self._state, self._desk = table, market, state, desk
        self._looked: datetime | None = None

    def due(self, now: datetime) -> list[VenueEvent]:
        """Settle what expired since the last look; once a second is often enough."""
        if self._looked is not None and self._looked <= now < self._looked + LOOK_EVERY:
            return []
        self._looked = now
        events = self._end_orders(now)
        for holding in list(self._state.account.holdings.values()):
            if holding.quantity and self._is_over(holding.contract.con_id, now):
                events.extend(self._settle(holding))
        return events

    def exercise(self, con_id: int, quantity: Decimal, now: datetime, *, override: bool) -> list[VenueEvent]:
        """Exercise long options early.

        Raises: RequestError when they are not held, not in the money (unless ``override``), or not to be exercised yet.
        """
        instrument = self._table.get(con_id)
        holding = self._state.account.holdings.get(con_id)
        if holding is None or holding.quantity < quantity or quantity <= 0:
            raise RequestError(_REFUSED, f"Error processing request : cause - {quantity} contracts are not held")
        if instrument.is_cash_settled:
            raise RequestError(_REFUSED, "Error processing request : cause - European options are exercised at expiry")
        if not override and not self._worth(holding, now):
            raise RequestError(_REFUSED, "Error processing request : cause - the option is not in the money")
        return self._turn_into_shares(holding, quantity)

    def _is_over(self, con_id: int, now: datetime) -> bool:
        instrument = self._table.find(con_id)
        if instrument is None or not instrument.underlying:
            return False
        return expiry_moment(instrument.contract.last_trade_date) <= now

    def _end_orders(self, now: datetime) -> list[VenueEvent]:
        over = [
            order
            for order in self._state.working.values()
            if order.contract.sec_type in _DATED and self._is_over(order.contract.con_id, now)
        ]
        return [event for order in over if not order.is_done for event in self._desk.cancel(*order.key, now)]

    def _settle(self, holding: Holding) -> list[VenueEvent]:
        contract = holding.contract
        instrument = self._table.get(contract.con_id)
        last = expiry_moment(instrument.contract.last_trade_date)
        if contract.sec_type != "OPT":
            return self._end(contract.con_id, self._market.mark(contract.con_id, last))
        worth = self._worth(holding, last)
        if worth and not instrument.is_cash_settled:
            return self._turn_into_shares(holding, holding.quantity)
        return self._end(contract.con_id, worth)

    def _worth(self, holding: Holding, at: datetime) -> Decimal:
        underlying = self._market.mark(self._table.get(holding.contract.con_id).underlying, at)
        return intrinsic(holding.contract.right, underlying, Decimal(str(holding.contract.strike)))

    def _end(self, con_id: int, price: Decimal) -> list[VenueEvent]:
        self._state.settle(con_id, price)
        return [PositionChanged(con_id), AccountChanged()]

    def _turn_into_shares(self, holding: Holding, quantity: Decimal) -> list[VenueEvent]:
        con_id = holding.contract.con_id
        underlying = self._table.get(self._table.get(con_id).underlying).contract
        self._state.exercise(con_id, quantity, underlying)
        return [PositionChanged(con_id), PositionChanged(underlying.con_id), AccountChanged()]
