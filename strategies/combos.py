"""Combinations: several contracts bought and sold as one order. Pure.

Rule: the combination's legs say what one unit of it buys and sells; the order's side turns all of them round. A roll is
«new minus current»: bought by whoever is long and sold by whoever is short, so that its limit is the spread's price in
both cases. Only the legs are ever booked; the combination itself is no position.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from ib_async import ComboLeg, Contract

from strategies.exceptions import OrderDeniedError

COMBINATION = "BAG"
Leg = tuple[Contract, int]  # a qualified contract and its signed ratio: bought > 0, sold < 0


def combination(legs: Sequence[Leg], exchange: str = "") -> Contract:
    """Return the combination of qualified contracts.

    Raises: OrderDeniedError when there are fewer than two legs, a leg has no conId or no ratio, or currencies differ.
    """
    if len(legs) < 2:
        raise OrderDeniedError("A combination has at least two legs.", code="bad_legs")
    if any(not contract.conId or not ratio for contract, ratio in legs):
        raise OrderDeniedError("Every leg needs a qualified contract and a ratio.", code="bad_legs")
    if len({contract.conId for contract, _ in legs}) != len(legs):
        raise OrderDeniedError("A contract stands twice in the combination.", code="bad_legs")
    if len({contract.currency for contract, _ in legs}) != 1:
        raise OrderDeniedError("The legs of a combination have one currency.", code="bad_legs")
    first = legs[0][0]
    made = Contract(secType=COMBINATION, symbol=first.symbol, currency=first.currency)
    made.exchange = exchange or first.exchange or "SMART"
    made.comboLegs = [
        ComboLeg(
            conId=contract.conId,
            ratio=abs(ratio),
            action="BUY" if ratio > 0 else "SELL",
            exchange=contract.exchange or made.exchange,
        )
        for contract, ratio in legs
    ]
    return made


def roll(current: Contract, new: Contract, quantity: Decimal) -> tuple[Contract, Decimal]:
    """Return the combination that moves ``quantity`` (signed, as held) from one future to another, and how much of it.

    Long 2: BUY 2 of (buy new, sell current). Short 2: SELL 2 of the same.
    Raises: OrderDeniedError when there is nothing to roll, or the contracts are one, or of different underlyings.
    """
    if not quantity:
        raise OrderDeniedError("There is no position to roll.", code="nothing_to_roll")
    if current.conId == new.conId:
        raise OrderDeniedError("Both contracts are the same; there is nothing to roll.", code="nothing_to_roll")
    if (current.symbol, current.secType) != (new.symbol, new.secType):
        raise OrderDeniedError(
            f"{current.symbol} {current.secType} is not rolled into {new.symbol} {new.secType}.", code="bad_legs"
        )
    if (current.multiplier or "1") != (new.multiplier or "1"):
        text = f"The multipliers differ ({current.multiplier} and {new.multiplier}): one is not worth one of the other."
        raise OrderDeniedError(text, code="bad_legs")
    return combination([(new, 1), (current, -1)]), quantity
