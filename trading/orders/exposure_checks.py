"""Checks of what the account and an owner would hold: position, exposure, weight, shorts, margin. Pure.

Rule: working orders count as if the side that is worse were filled, so that several small orders cannot do together
what one may not. Values are at the latest prices in the account's base currency; a missing price or rate denies.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from strategies.exceptions import LedgerError, MatsError, OrderDeniedError
from trading.orders.checking import RiskCheck, deny
from trading.orders.drafts import OrderDraft
from trading.orders.facts import Desk, RiskFacts, once_per_family
from trading.orders.limits import ACCOUNT, DEFAULT, Limit
from trading.orders.margins import binding, held_of

ZERO = Decimal(0)
CENT, BASIS = Decimal("0.01"), Decimal("0.0001")


@dataclass(slots=True)
class Line:
    """One contract: what is held, and what working orders may still buy and sell."""

    held: Decimal = ZERO
    buys: Decimal = ZERO
    sells: Decimal = ZERO

    @property
    def worst(self) -> Decimal:
        """Return the largest position, unsigned, that may come of it."""
        return max(abs(self.held), abs(self.held + self.buys), abs(self.held - self.sells))


def lines_of(draft: OrderDraft, facts: RiskFacts, desk: Desk, owner: str | None = None) -> dict[int, Line]:
    """Return every contract of the account, or of one owner, as if the draft were working already."""
    lines: dict[int, Line] = {draft.contract.con_id: Line()}
    for holding in desk.holdings:
        if owner in (None, holding.owner):
            lines.setdefault(holding.con_id, Line()).held += holding.quantity
    others = once_per_family(other for other in facts.open_orders if owner in (None, other.owner))
    changes = [(other.con_id, other.signed_quantity) for other in others]
    for con_id, change in [*changes, (draft.contract.con_id, draft.signed_quantity)]:
        line = lines.setdefault(con_id, Line())
        if change > 0:
            line.buys += change
        else:
            line.sells -= change
    return lines


def gross_of(lines: dict[int, Line], desk: Desk) -> Decimal:
    """Return the largest gross value that may come of some lines."""
    return sum((line.worst * abs(desk.unit_value(con_id, None)) for con_id, line in lines.items()), ZERO)


def net_of(lines: dict[int, Line], desk: Desk) -> Decimal:
    """Return the largest net value, unsigned, that may come of some lines."""
    values = {con_id: desk.unit_value(con_id, None) for con_id in lines}
    longest = sum(((line.held + line.buys) * values[con_id] for con_id, line in lines.items()), ZERO)
    shortest = sum(((line.held - line.sells) * values[con_id] for con_id, line in lines.items()), ZERO)
    return max(abs(longest), abs(shortest))


class PositionSize:
    """No position in one contract beyond a fraction of the account, an owner's nor the account's."""

    name = "position_fraction"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse growth beyond it."""
        desk = facts.desk
        limit = desk.limit(self.name) if desk else None
        if desk is None or limit is None or facts.is_reduction(draft):
            return
        con_id = draft.contract.con_id
        worst = max(lines_of(draft, facts, desk, whose)[con_id].worst for whose in (draft.owner, None))
        value, equity = worst * abs(desk.unit_value(con_id, None)), desk.account.net_liquidation
        if value > limit.value * equity:
            text = (
                f"{worst:f} {draft.contract.symbol} would be worth {value:.2f}; "
                f"{limit.value * equity:.2f} ({limit.value:.1%} of the account) is allowed."
            )
            raise deny(self.name, text, limit=limit, value=_fraction(value, equity))


class GrossExposure:
    """Not more held, long and short together, than a multiple of the account."""

    name = "gross_exposure"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse growth beyond it."""
        desk = facts.desk
        limit = desk.limit(self.name) if desk else None
        if desk is None or limit is None or facts.is_reduction(draft):
            return
        value = gross_of(lines_of(draft, facts, desk, _whose(limit, draft)), desk)
        _compare(self.name, "Gross exposure", value, limit, desk)


class NetExposure:
    """Not more held, long less short, than a multiple of the account."""

    name = "net_exposure"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse growth beyond it."""
        desk = facts.desk
        limit = desk.limit(self.name) if desk else None
        if desk is None or limit is None or facts.is_reduction(draft):
            return
        value = net_of(lines_of(draft, facts, desk, _whose(limit, draft)), desk)
        _compare(self.name, "Net exposure", value, limit, desk)


class MaxWeight:
    """A strategy holds no more than its largest weight of the account."""

    name = "max_weight"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse growth beyond it."""
        desk = facts.desk
        if desk is None or desk.standing.max_weight is None or facts.is_reduction(draft):
            return
        limit = Limit(self.name, desk.standing.max_weight, "strategy")
        value = gross_of(lines_of(draft, facts, desk, draft.owner), desk)
        _compare(self.name, f"What {draft.owner} holds", value, limit, desk)


class Shorting:
    """No short position where it is not allowed."""

    name = "allow_short"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse a sale of more than is held."""
        limit = facts.desk.limit(self.name) if facts.desk else None
        if limit is None or limit.value or draft.side == "BUY":
            return
        selling = facts.same_side(draft)
        if selling > max(ZERO, facts.position):
            text = f"{draft.owner} holds {facts.position:f} {draft.contract.symbol} and may not sell {selling:f}."
            raise deny(self.name, text, limit=limit, value=selling)


class MarginCushion:
    """No opening while the account is near a margin call."""

    name = "margin_cushion"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse to open while excess liquidity is too small a part of equity."""
        limit = facts.desk.limit(self.name) if facts.desk else None
        if facts.desk is None or not limit or not limit.value or facts.is_reduction(draft):
            return
        figures = facts.desk.account
        if figures.excess_liquidity is None:
            raise LedgerError("IB has not reported the account's excess liquidity.", code="margin_unknown")
        cushion = figures.excess_liquidity / figures.net_liquidation if figures.net_liquidation > 0 else ZERO
        if cushion < limit.value:
            text = f"The margin cushion is {cushion:.1%} of the account; opening needs {limit.value:.1%}."
            raise deny(self.name, text, limit=limit, value=cushion.quantize(BASIS))


class WhatIfMargin:
    """IB is asked what the order would do to the margin; costs a round trip, so it is off unless set."""

    name = "what_if_margin"

    def check(self, draft: OrderDraft, facts: RiskFacts) -> None:
        """Refuse what would leave less equity than initial margin, together with everything that works.

        Raises: MarginWanted while IB has to be asked; whoever runs the checks asks with nothing held, and runs them
        again.
        """
        limit = facts.desk.limit(self.name) if facts.desk else None
        if facts.desk is None or not limit or not limit.value or facts.is_reduction(draft):
            return
        orders = facts.open_orders  # before what is held: a fill in between is then counted twice, not left out
        bound, equity = binding(draft, orders, facts.desk.read_margins(), held_of(facts.desk.read_holdings()))
        if bound > equity:
            text = f"Initial margin would be {bound:.2f} with equity of {equity:.2f}, working orders included."
            raise deny(self.name, text, limit=limit, value=bound)


def unanswered(error: MatsError | None) -> OrderDeniedError:
    """Return the refusal of an order whose margin IB did not say."""
    reason = "IB did not say what the order does to the margin." if error is None else error.message
    return deny(WhatIfMargin.name, f"This cannot be checked: {reason}")


def _whose(limit: Limit, draft: OrderDraft) -> str | None:
    return None if limit.source in (DEFAULT, ACCOUNT) else draft.owner


def _compare(name: str, what: str, value: Decimal, limit: Limit, desk: Desk) -> None:
    equity = desk.account.net_liquidation
    if value > limit.value * equity:
        allowed = limit.value * equity
        text = f"{what} would be {value:.2f}; {allowed:.2f} ({limit.value:.1%} of the account) is allowed."
        raise deny(name, text, limit=limit, value=_fraction(value, equity))


def _fraction(value: Decimal, equity: Decimal) -> Decimal:
    return (value / equity).quantize(BASIS) if equity > 0 else value.quantize(CENT)


CHECKS: tuple[RiskCheck, ...] = (
    Shorting(),
    PositionSize(),
    MaxWeight(),
    GrossExposure(),
    NetExposure(),
    MarginCushion(),
    WhatIfMargin(),
)
