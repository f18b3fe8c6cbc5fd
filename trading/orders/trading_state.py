"""Trading states of the account and of each strategy, and how overrides cut a change of position. Pure.

Rule: ACTIVE lets everything pass; REDUCING only what brings a position nearer to flat; HALTED nothing new. Cancels pass
in every state. Of several states the strictest holds; of several overrides no-trading, then close, then reduce-only,
then the product of the multipliers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

ZERO, ONE = Decimal(0), Decimal(1)


class TradingState(StrEnum):
    """What may be sent."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


_STRICTNESS = {TradingState.ACTIVE: 0, TradingState.REDUCING: 1, TradingState.HALTED: 2}


def strictest(states: Iterable[TradingState]) -> TradingState:
    """Return the strictest of some states; ACTIVE when there is none."""
    return max(states, key=_STRICTNESS.__getitem__, default=TradingState.ACTIVE)


class OverrideAction(StrEnum):
    """What an override makes of the positions that a strategy wants."""

    MULTIPLIER = "multiplier"
    REDUCE_ONLY = "reduce_only"
    CLOSE = "close"
    NO_TRADING = "no_trading"


_RANK = {
    OverrideAction.MULTIPLIER: 0,
    OverrideAction.REDUCE_ONLY: 1,
    OverrideAction.CLOSE: 2,
    OverrideAction.NO_TRADING: 3,
}


@dataclass(frozen=True, slots=True)
class Override:
    """One override; ``multiplier`` counts for MULTIPLIER alone. Units: a fraction from 0 to 1."""

    action: OverrideAction
    multiplier: Decimal = ONE

    def allowed_change(self, position: Decimal, change: Decimal) -> Decimal:
        """Return how much of a change of position passes, signed; never more than was asked for.

        Units: signed shares or contracts. What is left of a multiplied position is truncated towards zero. An order
        that would turn a position around closes it exactly where growth is not allowed.
        """
        if self.action is OverrideAction.NO_TRADING:
            return ZERO
        if self.action is OverrideAction.MULTIPLIER:
            return _towards(position, (position + change) * self.multiplier, change)
        return _reduction(position, change)


def combined(overrides: Iterable[Override]) -> Override | None:
    """Return the one override that several make together; None when there is none."""
    found = list(overrides)
    if not found:
        return None
    action = max((one.action for one in found), key=_RANK.__getitem__)
    multiplier = ONE
    for one in found:
        if one.action is OverrideAction.MULTIPLIER:
            multiplier *= one.multiplier
    return Override(action, multiplier)


def is_reduction(position: Decimal, change: Decimal) -> bool:
    """Tell whether a change only brings a position nearer to flat."""
    return position * change < 0 and abs(change) <= abs(position)


def _reduction(position: Decimal, change: Decimal) -> Decimal:
    """Return the part of a change that reduces: none of what grows, the exact close of what would turn around."""
    if position * change >= 0:
        return ZERO
    return change if abs(change) <= abs(position) else -position


def _towards(position: Decimal, wanted: Decimal, change: Decimal) -> Decimal:
    left = wanted.to_integral_value(rounding=ROUND_DOWN) - position
    if left * change <= 0:
        return change if is_reduction(position, change) else ZERO
    return left if abs(left) <= abs(change) else change
