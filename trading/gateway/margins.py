"""What a position binds: Regulation T for stocks, a table for futures, the standard formula for short options.

Owns: initial and maintenance margin of one position alone; positions do not relieve each other.
Leaves: prices (given as a function), sums over the account (``account``).
Rule:

    stock    50 % initial; 25 % of a long, 30 % of a short position to maintain
    FX       3 % of the quoted value
    future   the contract's amounts in ``data/futures.csv``; 10 and 8 % of the value for one that is not in it
    option   long: its value. Short: its value and the larger of 20 % of the underlying (an index: 15 %) less what it is
             out of the money, and 10 % (of a put: of its strike)

Units: Decimal amounts in the contract's currency, never negative. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from trading.gateway.derivative_instruments import underlying_of
from trading.gateway.derivatives import future_of, option_of
from trading.gateway.model import Contract

ZERO = Decimal(0)
INITIAL_MARGIN = Decimal("0.50")
MAINTENANCE_LONG = Decimal("0.25")
MAINTENANCE_SHORT = Decimal("0.30")
FX_MARGIN = Decimal("0.03")
UNKNOWN_FUTURE = (Decimal("0.10"), Decimal("0.08"))
SHORT_OPTION, SHORT_INDEX_OPTION, SHORT_OPTION_LEAST = Decimal("0.20"), Decimal("0.15"), Decimal("0.10")


@dataclass(frozen=True, slots=True)
class Margin:
    """What a position binds."""

    initial: Decimal
    maintenance: Decimal


def margin_of(contract: Contract, quantity: Decimal, unit: Decimal, mark_of: Callable[[int], Decimal]) -> Margin:
    """The margin of a position; ``unit`` is the money for one contract at a price of 1."""
    if not quantity:
        return Margin(ZERO, ZERO)
    kind = contract.sec_type
    if kind == "FUT":
        return _future(contract, abs(quantity), unit, mark_of)
    value = abs(quantity) * unit * mark_of(contract.con_id)
    if kind == "OPT":
        bound = value if quantity > 0 else value + abs(quantity) * unit * _short_option(contract, mark_of)
        return Margin(bound, bound)
    if kind == "CASH":
        return Margin(value * FX_MARGIN, value * FX_MARGIN)
    return Margin(value * INITIAL_MARGIN, value * (MAINTENANCE_LONG if quantity > 0 else MAINTENANCE_SHORT))


def _future(contract: Contract, size: Decimal, unit: Decimal, mark_of: Callable[[int], Decimal]) -> Margin:
    found = future_of(contract.con_id)
    if found is not None:
        return Margin(size * found.root.initial_margin, size * found.root.maintenance_margin)
    value = size * unit * abs(mark_of(contract.con_id))
    return Margin(value * UNKNOWN_FUTURE[0], value * UNKNOWN_FUTURE[1])


def _short_option(contract: Contract, mark_of: Callable[[int], Decimal]) -> Decimal:
    """What a short option binds beyond its value, for each unit of the underlying."""
    strike, underlying = Decimal(str(contract.strike)), underlying_of(contract.con_id)
    price = mark_of(underlying) if underlying else strike
    is_call = contract.right.startswith("C")
    out_of_the_money = max(strike - price if is_call else price - strike, ZERO)
    found = option_of(contract.con_id)
    share = SHORT_INDEX_OPTION if found is not None and found.root.settlement == "cash" else SHORT_OPTION
    least = SHORT_OPTION_LEAST * (price if is_call else strike)
    return max(share * price - out_of_the_money, least)
