"""Orders that depend on one another: children of a bracket, members of an OCA group.

Owns: who waits for whom, which members of a group what share is taken from.
Leaves: doing it (``exchange_orders``).
Rule (IB's): children wait until the parent is done and form an OCA group named by the parent's permId. A group's type
says what a fill does to the others: 1 cancels them, 2 and 3 reduce them in proportion; with 3 (no block) members that
the same look at the market fills are all filled, which is how such groups overfill on an exchange.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from trading.gateway.exchange_records import OrderRecord
from trading.gateway.exchange_state import VenueState
from trading.gateway.exchange_terms import CANCEL_GROUP, REDUCE_BLOCKED, REDUCE_OPEN

_TARGETS = frozenset({"LMT", "MIT", "LIT"})


@dataclass(frozen=True, slots=True)
class GroupFill:
    """A fill that the other members of a group have to answer for."""

    order: OrderRecord
    quantity: Decimal
    before: Decimal  # remaining before it


class Families:
    """Looks up relatives among the working orders. Not thread-safe."""

    def __init__(self, state: VenueState) -> None:
        self._state = state

    def in_turn(self) -> list[OrderRecord]:
        """Working orders as they are matched: by age, but within groups stops before targets, for caution."""
        orders = list(self._state.working.values())
        if any(order.request.oca_group for order in orders):
            orders.sort(key=lambda order: bool(order.request.oca_group) and order.request.order_type in _TARGETS)
        return orders

    def parent(self, order: OrderRecord) -> OrderRecord | None:
        """The parent, None for an order without one."""
        parent_id = order.request.parent_id
        return self._state.orders.get((order.request.client_id, parent_id)) if parent_id else None

    def children(self, order: OrderRecord) -> list[OrderRecord]:
        """Working and held children."""
        client_id, order_id = order.key
        if not order_id:
            return []
        return [
            each
            for each in self._state.working.values()
            if each.request.parent_id == order_id and each.request.client_id == client_id
        ]

    def waits(self, order: OrderRecord) -> bool:
        """Tell whether an order waits for its parent."""
        parent = self.parent(order)
        return parent is not None and not parent.is_done

    def released_by(self, order: OrderRecord) -> list[OrderRecord]:
        """The family that an order's transmission releases: parent first, then held siblings, then itself."""
        parent = self.parent(order)
        if parent is None:
            return [order]
        family = [parent] if parent.held else []
        family.extend(each for each in self.children(parent) if each.held and each is not order)
        return [*family, order]

    def group_type(self, order: OrderRecord) -> int:
        """How a group answers a fill of this member; children of a bracket never overfill."""
        if order.request.parent_id and order.terms.oca_type == REDUCE_OPEN:
            return REDUCE_BLOCKED
        return order.terms.oca_type

    def others(self, order: OrderRecord) -> list[OrderRecord]:
        """The other working members of an order's group."""
        group = order.request.oca_group
        if not group:
            return []
        return [
            each
            for each in self._state.working.values()
            if each.request.oca_group == group and each is not order and not each.held
        ]

    def is_closed(self, group: str) -> bool:
        """Tell whether a group has been filled today: nobody may join it any more."""
        return bool(group) and any(
            each.status == "Filled" and each.request.oca_group == group for each in self._state.by_perm.values()
        )

    def active(self, order: OrderRecord) -> int:
        """Other active orders of the same contract and side."""
        return sum(
            1
            for each in self._state.working.values()
            if each is not order
            and not each.held
            and each.contract.con_id == order.contract.con_id
            and each.request.action == order.request.action
        )


def left_after(other: OrderRecord, fill: GroupFill, group_type: int, step: Decimal) -> Decimal:
    """What remains of another member after a fill; 0 ends it."""
    left = fill.before - fill.quantity
    if group_type == CANCEL_GROUP or left <= 0:
        return Decimal(0)
    share = other.remaining * left / fill.before
    return (share / step).to_integral_value(rounding=ROUND_FLOOR) * step


def child_quantity(child: OrderRecord, parent: OrderRecord, step: Decimal) -> Decimal:
    """A child's size when its parent ended with a part filled: in proportion, so that it closes no more than that."""
    share = child.request.quantity * parent.filled / parent.request.quantity
    return (share / step).to_integral_value(rounding=ROUND_FLOOR) * step
