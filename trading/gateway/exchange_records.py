"""Orders and executions as the paper exchange keeps them, and their JSON.

Owns: the record of an order, of an execution with its commission, both directions of their encoding.
Leaves: what changes them (``exchange_state``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from trading.brokers.fees import Traded
from trading.gateway.exchange_combos import Leg, resolve_legs
from trading.gateway.exchange_terms import Terms, read_legs, read_terms, works_outside_rth
from trading.gateway.hours import from_micros, to_micros
from trading.gateway.instruments import InstrumentTable
from trading.gateway.model import Commission, Contract, Execution, OrderRequest, OrderSnapshot
from trading.gateway.persistence import Record

ZERO = Decimal(0)
DONE = frozenset({"Filled", "Cancelled", "Inactive"})


@dataclass(slots=True)
class OrderRecord:
    """One order from its acceptance to the end of its day."""

    request: OrderRequest
    contract: Contract
    perm_id: int
    placed_us: int
    expires_us: int | None = None  # None: good till cancelled
    status: str = "PreSubmitted"
    held: bool = False  # transmit was false: nobody knows of it yet
    manual: bool = False  # somebody typed it into TWS; its order id is 0 until client 0 binds it
    triggered: bool = False
    stop: Decimal | None = None  # where a trailing stop stands
    starts_us: int | None = None  # good after this time
    auction_us: int | None = None  # works in the auction of this moment only
    since_us: int = 0  # the market before this moment does not count for it
    filled: Decimal = ZERO
    value: Decimal = ZERO  # Σ quantity times price
    last_price: Decimal = ZERO
    done_us: int | None = None
    reason: str = ""
    # Read from request and table, not stored:
    terms: Terms = field(default_factory=Terms)
    legs: tuple[Leg, ...] = ()
    shown: OrderRequest | None = None  # the request with the stop where it stands

    @property
    def key(self) -> tuple[int, int]:
        """Client and order id."""
        return self.request.client_id, self.request.order_id

    @property
    def is_buy(self) -> bool:
        """Tell whether it buys."""
        return self.request.action == "BUY"

    @property
    def is_done(self) -> bool:
        """Tell whether it will never work again."""
        return self.status in DONE

    @property
    def outside_rth(self) -> bool:
        """Tell whether it works outside regular hours."""
        return works_outside_rth(self.request, self.contract.sec_type)

    @property
    def remaining(self) -> Decimal:
        """What is still to be filled."""
        return self.request.quantity - self.filled

    @property
    def average_price(self) -> Decimal:
        """Mean price of the fills, 0 without any."""
        return self.value / self.filled if self.filled else ZERO

    @property
    def traded(self) -> Traded:
        """What the fee schedule needs of it."""
        multiplier = Decimal(self.contract.multiplier or 1)
        return Traded(self.filled, self.value * multiplier, not self.is_buy)

    def snapshot(self) -> OrderSnapshot:
        """The order as the wire shows it."""
        done = "" if self.done_us is None else self.status
        return OrderSnapshot(
            request=self._shown_request(),
            contract=self.contract,
            perm_id=self.perm_id,
            status=self.status,
            filled=self.filled,
            remaining=self.remaining,
            average_price=self.average_price,
            last_price=self.last_price,
            completed_time="" if self.done_us is None else ib_time(from_micros(self.done_us)),
            completed_status={"Filled": f"Filled Size: {self.filled}", "Cancelled": "Cancelled by Trader"}.get(
                done, done
            ),
            reject_reason=self.reason,
            manual=self.manual,
        )

    def _shown_request(self) -> OrderRequest:
        """A trailing order shows where its stop stands; the same object until that moves."""
        if self.stop is None:
            return self.request
        text = f"{self.stop:f}"
        if self.shown is None or self.shown.echo["trailStopPrice"] != text:
            self.shown = replace(self.request, echo={**self.request.echo, "trailStopPrice": text})
        return self.shown


@dataclass(slots=True)
class ExecutionEntry:
    """An execution with its commission, which is told only when due."""

    execution: Execution
    commission: Commission | None  # None for a combination as a whole: its legs bear it
    due_us: int
    reported: bool = False


@dataclass(frozen=True, slots=True)
class LegTrade:
    """What a combination's execution does in one leg."""

    contract: Contract
    quantity: Decimal  # signed
    price: Decimal
    fee: Decimal


def encode_past(entry: ExecutionEntry, order: OrderRecord) -> Record:
    execution, commission = entry.execution, entry.commission
    realized = None if commission is None else commission.realized_pnl
    encoded: dict[str, Any] = {
        "exec_id": execution.exec_id,
        "perm_id": execution.perm_id,
        "quantity": str(execution.quantity),
        "price": str(execution.price),
        "commission": None if commission is None else str(commission.amount),
        "realized": None if realized is None else str(realized),
        "time_us": to_micros(execution.time),
        "due_us": entry.due_us,
        "cum": str(execution.cum_quantity),
        "average": str(execution.average_price),
    }
    if execution.contract.con_id != order.contract.con_id:
        encoded["leg"] = [execution.contract.con_id, execution.contract.exchange, execution.side == "BOT"]
    return ["past", encoded]


_COMPUTED = frozenset({"terms", "legs", "shown"})


def encode_order(order: OrderRecord) -> dict[str, Any]:
    """An order as JSON values."""
    encoded = {name: getattr(order, name) for name in OrderRecord.__slots__ if name not in _COMPUTED}
    encoded["request"] = asdict(order.request)
    contract = order.contract
    encoded["contract"] = {"con_id": contract.con_id, "exchange": contract.exchange}
    if contract.sec_type == "BAG":
        encoded["contract"] = asdict(contract)
    for name in ("filled", "value", "last_price"):
        encoded[name] = str(encoded[name])
    encoded["stop"] = None if order.stop is None else str(order.stop)
    for name in ("quantity", "limit_price", "aux_price"):
        value = encoded["request"][name]
        encoded["request"][name] = None if value is None else str(value)
    return encoded


def decode_order(encoded: dict[str, Any], table: InstrumentTable) -> OrderRecord:
    """The order of its JSON values."""
    values = dict(encoded)
    request = dict(values["request"])
    request["contract"] = Contract(**request["contract"])
    request["algo_params"] = tuple((tag, value) for tag, value in request["algo_params"])
    for name in ("quantity", "limit_price", "aux_price"):
        request[name] = None if request[name] is None else Decimal(request[name])
    values["request"] = OrderRequest(**request)
    for name in ("filled", "value", "last_price"):
        values[name] = Decimal(values[name])
    values["stop"] = None if values.get("stop") is None else Decimal(values["stop"])
    return OrderRecord(**(values | _computed(values["request"], values["contract"], table)))


def _computed(request: OrderRequest, contract: dict[str, Any], table: InstrumentTable) -> dict[str, Any]:
    """What an order's fields and the instrument table say."""
    if contract.get("sec_type") == "BAG":
        legs = resolve_legs(table, read_legs(request))
        zone = legs[0].instrument.time_zone
        return {"contract": Contract(**contract), "legs": legs, "terms": read_terms(request, zone)}
    instrument = table.get(contract["con_id"])
    resolved = replace(instrument.contract, exchange=contract["exchange"])
    return {"contract": resolved, "terms": read_terms(request, instrument.time_zone)}


def ib_time(moment: datetime) -> str:
    """IB's text of a moment: yyyymmdd hh:mm:ss UTC."""
    return f"{moment:%Y%m%d %H:%M:%S} UTC"


def execution_exchange(contract: Contract) -> str:
    """Smart-routed orders execute on a real exchange."""
    if contract.exchange == "SMART":
        return contract.primary_exchange or {"OPT": "CBOE"}.get(contract.sec_type, "NYSE")
    return contract.exchange
