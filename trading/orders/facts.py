"""What the pre-trade checks may ask: each fact is read when it is first needed, since most orders need few. Pure.

Owns: the shapes. Leaves: reading them (``engine.risk_desk``), the checks.
Rule: a fact that is not known raises LedgerError; a check that needs it denies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from strategies.exceptions import LedgerError
from trading.orders.drafts import OrderDraft
from trading.orders.limits import Limit
from trading.orders.trading_state import Override, TradingState, is_reduction

if TYPE_CHECKING:
    from trading.orders.margins import MarginView

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """A working order of any owner. Units: ``quantity`` what is left of it, unsigned; ``age_s`` seconds."""

    con_id: int
    side: str
    quantity: Decimal
    order_type: str
    limit_price: Decimal | None
    stop_price: Decimal | None
    age_s: float
    owner: str = ""
    ordered: Decimal | None = None  # what was ordered; None: nothing is filled yet
    order_ref: str = ""
    parent_ref: str = ""  # the entry of a bracket whose exit it is
    family: str = ""  # of those that share it only one trades: exits of one entry, a group that cancels the rest

    @property
    def signed_quantity(self) -> Decimal:
        """Return the change of position that it may still bring."""
        return self.quantity if self.side == "BUY" else -self.quantity


def once_per_family(orders: Iterable[OpenOrder]) -> list[OpenOrder]:
    """Return the orders that may trade beside each other: of a family the largest of each contract and side, and of
    an entry that still works no exits, because they trade no more than it brought.
    """
    found = list(orders)
    working = {one.order_ref for one in found if one.order_ref}
    alone: list[OpenOrder] = []
    largest: dict[tuple[str, int, str], OpenOrder] = {}
    for one in found:
        if one.parent_ref and one.parent_ref in working:
            continue
        if not one.family:
            alone.append(one)
            continue
        key = one.family, one.con_id, one.side
        if key not in largest or largest[key].quantity < one.quantity:
            largest[key] = one
    return [*alone, *largest.values()]


def sum_of(orders: Iterable[OpenOrder]) -> Decimal:
    """Return the change of position that some orders may still bring, signed."""
    return sum((one.signed_quantity for one in orders), Decimal(0))


@dataclass(frozen=True, slots=True)
class Holding:
    """What one owner holds of a contract, signed."""

    owner: str
    con_id: int
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Quote:
    """A price of a contract in its currency, and how old it is. Units: ``age_s`` seconds."""

    price: Decimal
    age_s: float


@dataclass(frozen=True, slots=True)
class AccountFigures:
    """The account's equity, what it may still lose before a margin call, and its equity at the day's start."""

    net_liquidation: Decimal
    excess_liquidity: Decimal | None
    day_start: Decimal | None


@dataclass(frozen=True, slots=True)
class MarginImpact:
    """What IB says an order would do, in the account's base currency; None where it said nothing."""

    initial_margin_change: Decimal | None
    maintenance_margin_change: Decimal | None
    initial_margin_after: Decimal | None
    maintenance_margin_after: Decimal | None
    equity_with_loan_after: Decimal | None
    commission: Decimal | None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the people in charge decided about an order's owner and contract."""

    state: TradingState = TradingState.ACTIVE
    state_reason: str = ""
    override: Override | None = None
    lock: str = ""
    allow_list: frozenset[int] | None = None
    max_weight: Decimal | None = None


def _unknown() -> Any:
    raise LedgerError("This broker has no engine that could tell.", code="no_engine")


@dataclass
class Desk:
    """What only an engine knows."""

    limit: Callable[[str], Limit | None]
    now: datetime
    standing: Standing = field(default_factory=Standing)
    quote: Quote | None = None
    read_holdings: Callable[[], Sequence[Holding]] = _unknown
    read_account: Callable[[], AccountFigures] = _unknown
    unit_value: Callable[[int, Decimal | None], Decimal] = lambda con_id, price: _unknown()
    hours: Sequence[tuple[datetime, datetime]] | None = None
    reset_at: datetime | None = None
    take_turn: Callable[[Limit | None, Limit | None], None] = lambda minute, second: None
    read_margins: Callable[[], MarginView] = _unknown
    on_throttled: Callable[[str], None] = lambda text: None

    @cached_property
    def holdings(self) -> Sequence[Holding]:
        """Return what everybody holds."""
        return self.read_holdings()

    @cached_property
    def account(self) -> AccountFigures:
        """Return the account's figures.

        Raises: LedgerError while they are not known.
        """
        return self.read_account()

    def value_of(self, name: str) -> Decimal | None:
        """Return a limit's value; None when nothing holds."""
        found = self.limit(name)
        return None if found is None else found.value


@dataclass
class RiskFacts:
    """The facts about one order."""

    read_orders_today: Callable[[], int]
    read_realized_today: Callable[[], Decimal]
    read_equity: Callable[[], Decimal]
    read_position: Callable[[], Decimal]
    read_open_orders: Callable[[], Sequence[OpenOrder]]
    limits: Mapping[str, Any] = field(default_factory=dict)
    desk: Desk | None = None
    legs_reduce: bool = False  # a combination each of whose legs only reduces
    leave_out: str = ""  # the order that is being changed: what it was does not count beside what it becomes

    @cached_property
    def orders_today(self) -> int:
        """Return how many orders the owner sent today (UTC)."""
        return self.read_orders_today()

    @cached_property
    def realized_today(self) -> Decimal:
        """Return the owner's realised profit of today, net of fees."""
        return self.read_realized_today()

    @cached_property
    def equity(self) -> Decimal:
        """Return the owner's equity."""
        return self.read_equity()

    @cached_property
    def position(self) -> Decimal:
        """Return the owner's signed quantity of the draft's contract."""
        return self.read_position()

    @cached_property
    def open_orders(self) -> Sequence[OpenOrder]:
        """Return the working orders of the account, all owners', but for one that is being changed with its siblings:
        of these only one trades, so that they come to no more than what it becomes.
        """
        found = list(self.read_open_orders())
        if not self.leave_out:
            return found
        family = next((one.family for one in found if one.order_ref == self.leave_out), "")
        return [one for one in found if one.order_ref != self.leave_out and not (family and one.family == family)]

    def own_orders(self, draft: OrderDraft) -> list[OpenOrder]:
        """Return the owner's working orders in the draft's contract."""
        return [
            other
            for other in self.open_orders
            if other.con_id == draft.contract.con_id and other.owner in ("", draft.owner)
        ]

    def same_side(self, draft: OrderDraft) -> Decimal:
        """Return what the draft and the owner's working orders of its side may trade together, unsigned.

        Of a family, whose members cancel each other, the largest counts.
        """
        own = [one for one in self.own_orders(draft) if one.side == draft.side]
        siblings = [one.quantity for one in own if draft.family and one.family == draft.family]
        others = once_per_family(
            one for one in self.own_orders(draft) if not draft.family or one.family != draft.family
        )
        return max([draft.quantity, *siblings]) + sum((one.quantity for one in others if one.side == draft.side), ZERO)

    def is_reduction(self, draft: OrderDraft) -> bool:
        """Tell whether the order, with those that work already, only brings the position nearer to flat.

        Two sales of everything reduce each by itself and turn the position around together.
        """
        if self.legs_reduce:
            return True
        together = self.same_side(draft)
        return is_reduction(self.position, together if draft.side == "BUY" else -together)
