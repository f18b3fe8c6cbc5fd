"""What a report of the broker must be to be booked. Pure.

Owns: the refusals, each with its code, so that the writer can set the report aside and go on with the others.
Rule: a quantity is a finite number that does not vanish in the ledger's decimals; only a correction may say zero, and
then the fill is taken back. A price is finite, and above zero for
what is owned outright (stocks, bonds, funds, currencies, metals, crypto). Futures, their options and the options of
spreads have traded at zero and below (crude oil in April 2020), and an option that is closed for nothing has the price
zero; an index is not traded but may stand anywhere, so it needs a price above zero as well.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

from portfolio.ledger.money import ZERO, exact
from portfolio.ledger.revisions import FIRST_REVISION, split_exec_id
from strategies.events import CommissionSnapshot, FillSnapshot
from strategies.exceptions import LedgerError

_ANY_SIGN = frozenset({"FUT", "CONTFUT", "FOP", "BAG"})
_ZERO_TOO = frozenset({"OPT", "WAR", "IOPT"})
UNSUPPORTED = frozenset({"CFD"})  # no notional is exchanged, and it is financed daily: cash would be wrong
_CURRENCY = re.compile(r"[A-Z]{3}")


@lru_cache(maxsize=256)
def is_currency(code: str) -> bool:
    """Whether a code is three capital letters.

    >>> is_currency("USD"), is_currency(""), is_currency("BASE")
    (True, False, False)
    """
    return _CURRENCY.fullmatch(code) is not None


def price_fault(sec_type: str, price: Decimal) -> str:
    """Return what is wrong with a price, empty when nothing is.

    >>> price_fault("FUT", Decimal("-37.63")), price_fault("OPT", Decimal(0)), price_fault("STK", Decimal(0))
    ('', '', 'a price of STK is above zero')
    >>> price_fault("OPT", Decimal("-0.05")), price_fault("FUT", Decimal("NaN"))
    ('a price of OPT is not below zero', 'is not a number')
    """
    if not price.is_finite():
        return "is not a number"
    if price > 0 or sec_type in _ANY_SIGN:
        return ""
    if sec_type in _ZERO_TOO:
        return "" if price == 0 else f"a price of {sec_type} is not below zero"
    return f"a price of {sec_type} is above zero"


def check_fill(fill: FillSnapshot) -> None:
    """Raise when an execution cannot be booked.

    Raises: LedgerError code bad_execution, bad_price, unknown_contract, unknown_currency or unsupported_contract.
    """
    contract = fill.contract
    if not fill.exec_id.strip():
        raise _refuse(fill, "bad_execution", "has no id")
    if contract.sec_type in UNSUPPORTED:
        raise _refuse(fill, "unsupported_contract", f"is of a {contract.sec_type}, which these books do not keep")
    if contract.con_id <= 0:
        raise _refuse(fill, "unknown_contract", "names no contract")
    if not is_currency(contract.currency):
        raise _refuse(fill, "unknown_currency", f"is in the currency {contract.currency!r}")
    sized = is_quantity(fill.quantity) or is_bust(fill)
    if fill.side not in {"BOT", "SLD"} or not sized or not fill.price.is_finite():
        raise _refuse(fill, "bad_execution", f"says {fill.side} {fill.quantity} at {fill.price}")
    if not contract.multiplier.is_finite() or contract.multiplier <= 0:
        raise _refuse(fill, "bad_execution", f"has the multiplier {contract.multiplier}")
    if fill.price <= 0 and fill.quantity and (fault := price_fault(contract.sec_type, fill.price)):
        raise _refuse(fill, "bad_price", f"says {fill.price}: {fault}")


def is_quantity(quantity: Decimal) -> bool:
    """Whether a size is a number above zero that the ledger's decimals can hold."""
    return quantity.is_finite() and quantity > 0 and exact(quantity) > ZERO


def is_bust(fill: FillSnapshot) -> bool:
    """Whether a report says that an execution was taken back: a correction to nothing.

    Only a revision can say so: a fill of nothing is none.
    """
    return fill.quantity == 0 and split_exec_id(fill.exec_id)[1] > FIRST_REVISION


def check_fee(exec_id: str, amount: Decimal, currency: str) -> None:
    """Raise when a fee cannot be booked; nothing paid needs no currency.

    Raises: LedgerError code bad_commission or unknown_currency.
    """
    if not amount.is_finite():
        raise LedgerError(
            f"The commission of execution {exec_id} is {amount}; it cannot be booked.",
            code="bad_commission",
            exec_id=exec_id,
        )
    if amount and not is_currency(currency):
        raise LedgerError(
            f"The commission of execution {exec_id} is {amount} in the currency {currency!r}; it cannot be booked.",
            code="unknown_currency",
            exec_id=exec_id,
        )


def check_commission(report: CommissionSnapshot) -> None:
    """Raise when a commission report cannot be booked. Raises: as ``check_fee``."""
    check_fee(report.exec_id, report.amount, report.currency)


def _refuse(fill: FillSnapshot, code: str, what: str) -> LedgerError:
    return LedgerError(
        f"Execution {fill.exec_id} {what}: it cannot be booked.",
        code=code,
        exec_id=fill.exec_id,
        con_id=fill.contract.con_id,
    )
