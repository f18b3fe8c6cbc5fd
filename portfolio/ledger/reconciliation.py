"""Compare the broker's positions and cash with the ledger's. A difference is a value to show, never a correction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from portfolio.ledger.money import ZERO, exact

CENT = Decimal("0.01")
FUTURES_SHARE = Decimal("0.005")
_LARGEST_SPLIT = 50


@dataclass(frozen=True, slots=True)
class Difference:
    """One contract in which the two books disagree."""

    con_id: int
    broker_quantity: Decimal
    ledger_quantity: Decimal


@dataclass(frozen=True, slots=True)
class Held:
    """What a position means for the broker's cash. Units: ``mark`` per unit in ``currency``, None when unknown."""

    con_id: int
    symbol: str
    sec_type: str
    currency: str
    multiplier: Decimal
    quantity: Decimal
    mark: Decimal | None = None


@dataclass(frozen=True, slots=True)
class CashDifference:
    """One currency in which the two books disagree by more than ``tolerance``."""

    currency: str
    broker_amount: Decimal
    expected_amount: Decimal
    tolerance: Decimal

    @property
    def amount(self) -> Decimal:
        """What the broker has more than the books."""
        return self.broker_amount - self.expected_amount


@dataclass(frozen=True, slots=True)
class ExpectedCash:
    """What the broker should report; ``unknown`` names the currencies that lack a mark."""

    amounts: dict[str, Decimal]
    tolerances: dict[str, Decimal]
    unknown: frozenset[str] = frozenset()


def compare(broker: Mapping[int, Decimal], ledger: Mapping[int, Decimal]) -> list[Difference]:
    """Return every contract whose quantities differ, by contract id; a missing contract holds zero.

    The caller passes a broker answer only when it is complete: a partial one would look like sold positions.

    >>> compare({1: Decimal(100)}, {1: Decimal(60), 2: Decimal(5)})[0]
    Difference(con_id=1, broker_quantity=Decimal('100.0000000000'), ledger_quantity=Decimal('60.0000000000'))
    >>> compare({1: Decimal(100)}, {1: Decimal("100.00"), 2: Decimal(0)})
    []
    """
    found = []
    for con_id in sorted({*broker, *ledger}):
        theirs, ours = exact(broker.get(con_id, ZERO)), exact(ledger.get(con_id, ZERO))
        if theirs != ours:
            found.append(Difference(con_id, theirs, ours))
    return found


def expected_cash(owned: Mapping[str, Decimal], held: Iterable[Held]) -> ExpectedCash:
    """Return what the broker's cash should be, by currency, from Σ owners' cash and the positions.

    The books pay a future's notional, the broker only its daily gain: what the contracts are worth is added. An FX
    pair's base currency is cash at the broker and a position in the books: its quantity is added. Two roundings stand
    between the figures (the broker's at the opening and now), so a cent passes; a future's mark and the broker's cash
    may be of different moments, so half a percent of the contracts' value passes beside it.

    >>> pair = Held(1, "EUR", "CASH", "USD", Decimal(1), Decimal(1000))
    >>> expected_cash({"USD": Decimal(-1100)}, [pair]).amounts == {"USD": -1100, "EUR": 1000}
    True
    """
    amounts, tolerances, unknown = dict(owned), dict.fromkeys(owned, CENT), set()
    for one in held:
        if not one.quantity or one.sec_type not in ("FUT", "CASH"):
            continue
        currency, value = one.currency, ZERO
        if one.sec_type == "CASH":
            currency, value = one.symbol, one.quantity
        elif one.mark is None:
            unknown.add(currency)
        else:
            value = one.quantity * one.mark * one.multiplier
            tolerances[currency] = tolerances.get(currency, CENT) + abs(value) * FUTURES_SHARE
        amounts[currency] = exact(amounts.get(currency, ZERO) + value)
        tolerances.setdefault(currency, CENT)
    return ExpectedCash(amounts, tolerances, frozenset(unknown))


def compare_money(broker: Mapping[str, Decimal], expected: ExpectedCash) -> list[CashDifference]:
    """Return every currency that differs beyond its tolerance; one that the broker does not name holds nothing there.

    A currency whose expectation is unknown is left out: it neither agrees nor differs.

    >>> compare_money({"USD": Decimal("100.02")}, ExpectedCash({"USD": Decimal(100)}, {}))[0].amount
    Decimal('0.0200000000')
    """
    found = []
    for currency in sorted({*broker, *expected.amounts} - expected.unknown):
        theirs, ours = exact(broker.get(currency, ZERO)), exact(expected.amounts.get(currency, ZERO))
        tolerance = expected.tolerances.get(currency, CENT)
        if abs(theirs - ours) > tolerance:
            found.append(CashDifference(currency, theirs, ours, tolerance))
    return found


def split_ratio(before: Decimal, after: Decimal) -> tuple[int, int] | None:
    """Return n, m when ``after`` is exactly n/m of ``before`` in small whole numbers, as after a split; else None.

    >>> split_ratio(Decimal(100), Decimal(400)), split_ratio(Decimal(100), Decimal(10))
    ((4, 1), (1, 10))
    >>> split_ratio(Decimal(100), Decimal(103)), split_ratio(Decimal(100), Decimal(-100)), split_ratio(ZERO, ZERO)
    (None, None, None)
    """
    if not before or not after or (before > 0) is not (after > 0) or before == after:
        return None
    ratio = Fraction(after) / Fraction(before)
    small, large = sorted((ratio.numerator, ratio.denominator))
    usual = (small == 1 and large <= _LARGEST_SPLIT) or large <= 5
    return (ratio.numerator, ratio.denominator) if usual else None
