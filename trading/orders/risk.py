"""Pre-trade checks: each a small object that names itself, its limit, the value that broke it and who set the limit.

Owns: the order of the checks and those of the order's own form. Leaves: size and price (``size_checks``), what the
account holds (``exposure_checks``), behaviour and permission (``conduct_checks``), reading facts (``facts``), the gate
that knows connection, reconciliation and locked instruments (``engine.gate``).
Rule: an order that only reduces the owner's position passes what must not keep anyone in. Denied is not rejected: a
denied order was never sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from strategies.exceptions import LedgerError
from strategies.order_types import TYPES
from trading.orders import conduct_checks, exposure_checks, size_checks
from trading.orders.checking import RiskCheck, deny
from trading.orders.conduct_checks import MAX_ACTIVE_PER_SIDE
from trading.orders.drafts import FLATTEN, OrderDraft
from trading.orders.facts import OpenOrder, RiskFacts

__all__ = [
    "CHANGES",
    "CHECKS",
    "COMBINATION",
    "COMBINATION_CHANGED",
    "COMBINATION_LOOKING",
    "FORM",
    "LEGS",
    "LOOKING",
    "MARGIN",
    "MAX_ACTIVE_PER_SIDE",
    "ORDER_TYPES",
    "OpenOrder",
    "RiskFacts",
    "check_order",
]

ORDER_TYPES = frozenset(TYPES)
NEEDS_LIMIT = frozenset(name for name, row in TYPES.items() if row.limit)
NEEDS_STOP = frozenset(name for name, row in TYPES.items() if row.stop)
TAKES_ADAPTIVE = frozenset(name for name, row in TYPES.items() if row.adaptive)


class SizeIsPositive:
    """Nothing is ordered with size zero."""

    name = "size_zero"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse a size that is not greater than zero."""
        if not draft.quantity > 0:
            raise deny(self.name, f"The size is {draft.quantity:f}; an order needs more than 0.", value=draft.quantity)


class TypeIsKnown:
    """Only order types that MATS can account for."""

    name = "order_type"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse other types, and an algorithm on a type that does not take it."""
        if draft.order_type not in ORDER_TYPES:
            known = ", ".join(sorted(ORDER_TYPES))
            raise deny(self.name, f"Order type {draft.order_type!r} is not one of {known}.", value=draft.order_type)
        if draft.algo_strategy and draft.order_type not in TAKES_ADAPTIVE:
            raise deny(self.name, f"{draft.order_type} takes no algorithm; use MKT or LMT.", value=draft.order_type)


class PricesAreGiven:
    """A limit order has a limit, a stop order a trigger, and both are prices."""

    name = "price_missing"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse a type without its price."""
        is_combination = draft.contract.sec_type == "BAG"  # its price is a difference, and may be zero or less
        if is_combination and draft.order_type in NEEDS_LIMIT and draft.limit_price is not None:
            return
        if draft.order_type in NEEDS_LIMIT and not (draft.limit_price and draft.limit_price > 0):
            raise deny(self.name, f"{draft.order_type} needs a limit price.", value=draft.limit_price)
        if draft.order_type in NEEDS_STOP and not (draft.stop_price and draft.stop_price > 0):
            raise deny(self.name, f"{draft.order_type} needs a stop price.", value=draft.stop_price)


class FlattensOnly:
    """An order of the kill switch closes and never turns around, whatever else stands in its way."""

    name = "flatten_reverses"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse a closing order that is more than the position as the books have it now."""
        if not facts.is_reduction(draft):
            text = f"{draft.owner} holds {facts.position:f}; {draft.signed_quantity:f} would not only close it."
            raise deny(self.name, text, limit=facts.position, value=draft.signed_quantity)


FORM: tuple[RiskCheck, ...] = (SizeIsPositive(), TypeIsKnown(), PricesAreGiven())
CLOSING: tuple[RiskCheck, ...] = (*FORM, FlattensOnly())
# The cheap ones first; the rate is counted last, since only what is sent counts.
CHECKS: tuple[RiskCheck, ...] = (
    *FORM,
    *conduct_checks.PERMISSION,
    *size_checks.CHECKS,
    *conduct_checks.CONDUCT,
    *exposure_checks.CHECKS,
    *conduct_checks.RATE,
)

# A combination as a whole; its legs are checked like changes, but for the margin, which is that of the whole.
COMBINATION: tuple[RiskCheck, ...] = (
    *FORM,
    conduct_checks.DailyTrades(),
    conduct_checks.RepeatThrottle(),
    conduct_checks.DailyLoss(),
    conduct_checks.AccountLoss(),
    exposure_checks.WhatIfMargin(),
    *conduct_checks.RATE,
)
COMBINATION_CHANGED: tuple[RiskCheck, ...] = (*FORM, exposure_checks.WhatIfMargin())

# Who only looks sends nothing: what counts orders, or holds a strategy for sending too many, is left out.
_COUNTING = (conduct_checks.RepeatThrottle, conduct_checks.OrderRate)
LOOKING: tuple[RiskCheck, ...] = tuple(rule for rule in CHECKS if not isinstance(rule, _COUNTING))
COMBINATION_LOOKING: tuple[RiskCheck, ...] = tuple(rule for rule in COMBINATION if not isinstance(rule, _COUNTING))

# What an order becomes is checked like a new one, but for what counts orders.
CHANGES: tuple[RiskCheck, ...] = (
    *FORM,
    *conduct_checks.PERMISSION,
    *size_checks.CHECKS,
    conduct_checks.SelfCross(),
    *exposure_checks.CHECKS,
)
LEGS: tuple[RiskCheck, ...] = tuple(rule for rule in CHANGES if not isinstance(rule, exposure_checks.WhatIfMargin))
MARGIN: tuple[RiskCheck, ...] = (exposure_checks.WhatIfMargin(),)


def check_order(draft: OrderDraft, facts: RiskFacts, checks: Sequence[RiskCheck] | None = None) -> None:
    """Let the draft pass every check.

    Raises: OrderDeniedError of the first that refuses; code is its name, fields hold limit, value and source.
    """
    if checks is None:
        checks = CLOSING if draft.purpose == FLATTEN else CHECKS
    for rule in checks:
        try:
            rule.check(draft, facts)
        except LedgerError as error:  # a fact that nobody knows is no permission
            raise deny(rule.name, f"This cannot be checked: {error.message}") from error
