"""How far a combination has come, by the executions of its legs. Pure.

IB reports the combination's own execution beside those of its legs, and sometimes only the legs. The books take the
legs, so the order is measured by them: one unit is filled when every leg has been executed to its ratio.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_FLOOR, Decimal

from strategies.events import LegSnapshot

ZERO, ONE = Decimal(0), Decimal(1)
Executed = Mapping[int, tuple[Decimal, Decimal]]  # by con_id: unsigned quantity and its value at the fills' prices
Multipliers = Mapping[int, Decimal]


def legs_text(legs: Iterable[LegSnapshot]) -> str:
    """Return the legs as an order's row keeps them: ``con_id:ratio``, separated by blanks."""
    return " ".join(f"{leg.con_id}:{leg.ratio}" for leg in legs)


def legs_of_text(text: str) -> tuple[LegSnapshot, ...]:
    """Return the legs that a row keeps."""
    pairs = (part.partition(":") for part in text.split())
    return tuple(LegSnapshot(int(con_id), int(ratio)) for con_id, _, ratio in pairs)


def add_up(parts: Iterable[tuple[int, Decimal, Decimal]]) -> dict[int, tuple[Decimal, Decimal]]:
    """Return executions (con_id, quantity of any sign, price) summed by contract."""
    found: dict[int, tuple[Decimal, Decimal]] = {}
    for con_id, quantity, price in parts:
        units, value = found.get(con_id, (ZERO, ZERO))
        found[con_id] = units + abs(quantity), value + abs(quantity) * price
    return found


def units_filled(
    legs: Iterable[LegSnapshot], executed: Executed, multipliers: Multipliers | None = None
) -> tuple[Decimal, Decimal | None]:
    """Return how many whole units are filled, and the combination's average price once every leg has one.

    The price is by the largest multiplier among the legs, as IB quotes it: shares against an option by the share.
    """
    multiplier_of = multipliers or {}
    known = list(legs)
    done = [(executed.get(leg.con_id, (ZERO, ZERO))[0] / abs(leg.ratio)) for leg in known]
    filled = min(done, default=ZERO).to_integral_value(rounding=ROUND_FLOOR)
    if not known or min(done) <= 0:
        return filled, None
    largest = max(multiplier_of.get(leg.con_id, ONE) for leg in known)
    price = ZERO
    for leg in known:
        units, value = executed[leg.con_id]
        price += leg.ratio * value / units * multiplier_of.get(leg.con_id, ONE) / largest
    return filled, price
