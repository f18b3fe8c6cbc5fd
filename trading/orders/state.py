"""The order's own state machine: the only table along which an order moves. Pure.

IB's words are evidence, not the state: ib_async sets Cancelled on mere warnings, statuses repeat, arrive late or not
at all, and fills overtake them. ``orders.progress`` maps evidence to a state and never leaves a final one, but for a
late fill (an order believed cancelled whose execution arrives was filled) and for a status against a mere error text.
"""

from __future__ import annotations

from enum import StrEnum


class OrderState(StrEnum):
    """Where an order stands."""

    INTENT = "intent"  # committed, not yet handed to the wire
    DENIED = "denied"  # refused by MATS, never sent
    SENT = "sent"  # handed to the wire, no answer yet
    ACCEPTED = "accepted"  # IB holds it (PreSubmitted, Submitted)
    PARTIAL = "partial"  # some filled, still working
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"  # refused by IB
    INACTIVE = "inactive"  # IB says Inactive: not working, may come back
    UNKNOWN = "unknown"  # sent or perhaps sent, unconfirmed: queried, never resent


FINAL = frozenset({OrderState.DENIED, OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED})
WORKING = frozenset(set(OrderState) - FINAL)

MOVES: dict[OrderState, frozenset[OrderState]] = {
    OrderState.INTENT: frozenset(set(OrderState) - {OrderState.INTENT}),
    OrderState.SENT: frozenset(set(OrderState) - {OrderState.INTENT, OrderState.SENT, OrderState.DENIED}),
    OrderState.UNKNOWN: frozenset(
        set(OrderState) - {OrderState.INTENT, OrderState.UNKNOWN, OrderState.DENIED, OrderState.SENT}
    ),
    OrderState.ACCEPTED: frozenset(
        {
            OrderState.PARTIAL,
            OrderState.FILLED,
            OrderState.CANCELLED,
            OrderState.REJECTED,
            OrderState.INACTIVE,
            OrderState.UNKNOWN,
        }
    ),
    OrderState.PARTIAL: frozenset({OrderState.FILLED, OrderState.CANCELLED, OrderState.INACTIVE, OrderState.UNKNOWN}),
    OrderState.INACTIVE: frozenset(
        {OrderState.ACCEPTED, OrderState.PARTIAL, OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED}
    ),
    # A fill that overtook its cancel, or a status believed too early: executions win.
    OrderState.CANCELLED: frozenset({OrderState.FILLED}),
    # An error text said no, but IB's own status says working: the status wins.
    # Or its executions, or a cancel that counts some, show that IB had it.
    OrderState.REJECTED: frozenset(
        {OrderState.ACCEPTED, OrderState.PARTIAL, OrderState.FILLED, OrderState.UNKNOWN, OrderState.CANCELLED}
    ),
    OrderState.DENIED: frozenset(),
    OrderState.FILLED: frozenset(),
}


def can_move(current: OrderState, target: OrderState) -> bool:
    """Tell whether the table allows the move; staying put is no move."""
    return target in MOVES[current]
