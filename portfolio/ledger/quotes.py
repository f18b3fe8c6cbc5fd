"""Quoted prices into money. Pure.

Owns: which contracts may be quoted in a part of their currency, and the division. Rule: the books hold money: a price
is in the instrument's currency per unit and point. IB quotes London shares in pence, grains and meat in cents, and says
so by the price magnifier of the contract's details alone, which differs between listings of one exchange. Where that
may be and is not known, nothing is guessed.
Source: executions and market prices come as quoted, average costs as money (reported for pence and for cents alike);
not confirmed by IB's documentation.
"""

from __future__ import annotations

from decimal import Decimal

from portfolio.ledger.money import exact

_FUTURES = frozenset({"FUT", "CONTFUT", "FOP"})
_QUOTED_WHOLE = frozenset({"CASH", "CRYPTO", "CMDTY", "BAG", "BOND", "FUND"})
_IN_PARTS = frozenset({"GBP", "ZAR", "ILS"})  # pence, cents and agorot of their exchanges


def may_be_magnified(sec_type: str, currency: str) -> bool:
    """Tell whether a contract may be quoted in a part of its currency.

    >>> may_be_magnified("STK", "GBP"), may_be_magnified("STK", "USD"), may_be_magnified("FUT", "USD")
    (True, False, True)
    """
    return sec_type in _FUTURES or (currency in _IN_PARTS and sec_type not in _QUOTED_WHOLE)


def magnifier_of(sec_type: str, currency: str, known: int | None) -> int | None:
    """Return what quoted prices are divided by; None while that cannot be known.

    >>> magnifier_of("STK", "GBP", 100), magnifier_of("STK", "GBP", None), magnifier_of("STK", "USD", None)
    (100, None, 1)
    """
    return known or (None if may_be_magnified(sec_type, currency) else 1)


def in_money(price: Decimal, magnifier: int) -> Decimal:
    """Return a quoted price as money.

    >>> in_money(Decimal("542.3"), 100) == Decimal("5.423")
    True
    """
    return price if magnifier == 1 else exact(price / magnifier)
