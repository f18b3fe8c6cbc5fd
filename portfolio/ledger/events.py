"""What an adjustment says: its details read, checked and typed. Pure.

Owns: the fields of each kind of event. Leaves: what it does to the books (``portfolio.effects``), and whether owners
and contracts exist. Units: decimals come as text, contract ids as integers; an amount is in the named currency.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from portfolio.ledger.money import ONE, ZERO, exact
from strategies.exceptions import ConfigError

DISCRETIONARY = "Discretionary"
_CURRENCY = re.compile(r"[A-Z]{3}")
_LIMIT = Decimal("1E+15")


@dataclass(frozen=True, slots=True)
class CashFlow:
    """Cash that enters or leaves one owner: a deposit, a withdrawal, interest."""

    owner: str
    currency: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class CashTransfer:
    """Cash from one owner to another, also by rebalancing; the weights are for the record."""

    giver: str
    receiver: str
    currency: str
    amount: Decimal
    target_weight: str = ""
    equity: str = ""
    net_liquidation: str = ""


@dataclass(frozen=True, slots=True)
class Fee:
    """A fee, positive when paid; of an execution it goes to the owners of that one."""

    owner: str
    currency: str
    amount: Decimal
    con_id: int | None = None
    exec_id: str = ""


@dataclass(frozen=True, slots=True)
class PositionTransfer:
    """A quantity that one owner hands to another; without a price at the giver's average cost."""

    giver: str
    receiver: str
    con_id: int
    quantity: Decimal
    price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Units that came into the account without a trade, at what they cost; a negative quantity is a short position."""

    owner: str
    con_id: int
    quantity: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class Delivery:
    """Units that left the account without a trade, at what they cost."""

    owner: str
    con_id: int
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Income:
    """A dividend or the tax on it, in total; without owners by what each held."""

    con_id: int
    currency: str
    amount: Decimal
    owners: tuple[tuple[str, Decimal], ...] = ()


@dataclass(frozen=True, slots=True)
class CashInLieu:
    """What the broker paid for the fractions that a split left."""

    currency: str
    amount: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Split:
    """``numerator`` new units for ``denominator`` old ones."""

    con_id: int
    numerator: Decimal
    denominator: Decimal
    cash_in_lieu: CashInLieu | None = None


@dataclass(frozen=True, slots=True)
class SymbolChange:
    """A contract that becomes another."""

    con_id: int
    new_con_id: int
    numerator: Decimal
    denominator: Decimal


@dataclass(frozen=True, slots=True)
class Expiry:
    """A contract that ends at a price per unit, zero when worthless."""

    con_id: int
    settlement_price: Decimal


@dataclass(frozen=True, slots=True)
class Exercise:
    """Contracts of an option that become their underlying: exercise of long ones, assignment of short ones."""

    con_id: int
    underlying_con_id: int
    owners: tuple[tuple[str, Decimal], ...] = ()
    quantity: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Reassignment:
    """An execution, or a part of it, that goes to another owner."""

    exec_id: str
    giver: str
    receiver: str
    quantity: Decimal | None = None


Event = (
    CashFlow
    | CashTransfer
    | Fee
    | PositionTransfer
    | Receipt
    | Delivery
    | Income
    | Split
    | SymbolChange
    | Expiry
    | Exercise
    | Reassignment
)


def parse_details(kind: str, details: Mapping[str, Any]) -> Event:
    """Return the typed event that the details describe.

    >>> parse_details("deposit", {"owner": "ALPHA", "currency": "USD", "amount": "250.5"})
    CashFlow(owner='ALPHA', currency='USD', amount=Decimal('250.5000000000'))
    >>> parse_details("deposit", {"owner": "ALPHA", "currency": "usd", "amount": "NaN"})
    Traceback (most recent call last):
    strategies.exceptions.ConfigError: amount: is not a number; currency: is three capital letters, for example USD

    Raises: ConfigError code bad_adjustment; ``fields["errors"]`` has a sentence for each wrong field.
    """
    parser = _PARSERS.get(kind)
    if parser is None:
        raise refused({"kind": f"is none of {', '.join(sorted(_PARSERS))}"})
    if not isinstance(details, Mapping):
        raise refused({"details": "is an object"})
    reader = _Reader(details)
    event = parser(reader)
    reader.finish()
    return event


def refused(errors: Mapping[str, str]) -> ConfigError:
    """Return the error for wrong fields."""
    text = "; ".join(f"{name}: {errors[name]}" for name in sorted(errors))
    return ConfigError(text, code="bad_adjustment", errors=dict(errors))


def as_details(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return details that JSON can hold: decimals as text.

    >>> as_details({"amount": Decimal("2.50"), "owners": {"A": Decimal(1)}})
    {'amount': '2.50', 'owners': {'A': '1'}}
    """
    return {key: _plain(value) for key, value in event.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}" if value.is_finite() else str(value)
    return as_details(value) if isinstance(value, Mapping) else value


@dataclass
class _Reader:
    """Takes fields out of details; what is wrong is noted, and said together at the end."""

    details: Mapping[str, Any]
    errors: dict[str, str] = field(default_factory=dict)
    prefix: str = ""
    _seen: set[str] = field(default_factory=set)

    def finish(self) -> None:
        """Raise when a field was wrong or is unknown."""
        self.note_unknown()
        if self.errors:
            raise refused(self.errors)

    def note_unknown(self) -> None:
        for name in sorted(set(map(str, self.details)) - self._seen):
            self.errors[self.prefix + name] = "is not known here"

    def wrong(self, name: str, text: str) -> None:
        self.errors.setdefault(self.prefix + name, text)

    def get(self, name: str) -> Any:
        self._seen.add(name)
        return self.details.get(name)

    def text(self, name: str, default: str | None = None, limit: int = 64) -> str:
        value = self.get(name)
        if value in (None, "") and default is not None:
            return default
        if not isinstance(value, str) or not value.strip() or len(value) > limit:
            self.wrong(name, "is missing" if value in (None, "") else f"is a text of at most {limit} characters")
            return ""
        return value

    def currency(self) -> str:
        value = self.get("currency")
        if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
            self.wrong("currency", "is three capital letters, for example USD")
            return ""
        return value

    def con_id(self, name: str = "con_id", *, required: bool = True) -> int:
        value = self.get(name)
        if value is None and not required:
            return 0
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            self.wrong(name, "is a contract id, a whole number above zero")
            return 0
        return value

    def number(self, name: str, default: Decimal | None = None) -> Decimal:
        value = self.get(name)
        if value in (None, ""):
            if default is None:
                self.wrong(name, "is missing")
            return default or ZERO
        try:
            number = Decimal(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else None
        except (InvalidOperation, TypeError, ValueError):
            number = None
        if number is None or not number.is_finite():
            self.wrong(name, "is not a number")
            return ZERO
        if abs(number) >= _LIMIT or number != exact(number):
            self.wrong(name, "has at most 15 digits before and 10 behind the point")
            return ZERO
        return exact(number)

    def positive(self, name: str, default: Decimal | None = None) -> Decimal:
        number = self.number(name, default)
        if number <= 0:
            self.wrong(name, "is above zero")
        return number

    def nonzero(self, name: str) -> Decimal:
        number = self.number(name)
        if not number:
            self.wrong(name, "is not zero")
        return number

    def maybe(self, name: str, read: Callable[[str], Decimal]) -> Decimal | None:
        return None if self.get(name) in (None, "") else read(name)

    def owners(self) -> tuple[tuple[str, Decimal], ...]:
        value = self.get("owners")
        if value in (None, {}):
            return ()
        if not isinstance(value, Mapping):
            self.wrong("owners", "is an object of owners and amounts")
            return ()
        inner = _Reader(value, self.errors, f"{self.prefix}owners.")
        return tuple(sorted((str(name), inner.nonzero(name)) for name in value))

    def pair(self) -> tuple[str, str]:
        giver, receiver = self.text("from"), self.text("to")
        if giver and giver == receiver:
            self.wrong("to", "is another owner than from")
        return giver, receiver


def _flow(reader: _Reader) -> CashFlow:
    return CashFlow(reader.text("owner"), reader.currency(), reader.positive("amount"))


def _interest(reader: _Reader) -> CashFlow:
    return CashFlow(reader.text("owner", DISCRETIONARY), reader.currency(), reader.nonzero("amount"))


def _fee(reader: _Reader) -> Fee:
    return Fee(
        reader.text("owner", DISCRETIONARY),
        reader.currency(),
        reader.nonzero("amount"),
        reader.con_id(required=False) or None,
        reader.text("exec_id", ""),
    )


def _transfer(reader: _Reader) -> CashTransfer:
    giver, receiver = reader.pair()
    return CashTransfer(giver, receiver, reader.currency(), reader.positive("amount"))


def _rebalance(reader: _Reader) -> CashTransfer:
    giver, receiver = reader.pair()
    record = [f"{reader.number(name, ZERO):f}" for name in ("target_weight", "equity", "net_liquidation")]
    return CashTransfer(giver, receiver, reader.currency(), reader.positive("amount"), *record)


def _transfer_position(reader: _Reader) -> PositionTransfer:
    giver, receiver = reader.pair()
    price = reader.maybe("price", reader.number)
    return PositionTransfer(giver, receiver, reader.con_id(), reader.positive("quantity"), price)


def _receipt(reader: _Reader) -> Receipt:
    owner, con_id = reader.text("owner", DISCRETIONARY), reader.con_id()
    return Receipt(owner, con_id, reader.nonzero("quantity"), reader.number("price"))


def _delivery(reader: _Reader) -> Delivery:
    return Delivery(reader.text("owner", DISCRETIONARY), reader.con_id(), reader.positive("quantity"))


def _income(reader: _Reader) -> Income:
    event = Income(reader.con_id(), reader.currency(), reader.nonzero("amount"), reader.owners())
    if event.owners and sum((part for _, part in event.owners), ZERO) != event.amount:
        reader.wrong("owners", "do not add up to the amount")
    return event


def _split(reader: _Reader) -> Split:
    con_id, numerator, denominator = reader.con_id(), reader.positive("numerator"), reader.positive("denominator")
    if numerator == denominator and numerator:
        reader.wrong("denominator", "differs from the numerator")
    return Split(con_id, numerator, denominator, _cash_in_lieu(reader))


def _cash_in_lieu(reader: _Reader) -> CashInLieu | None:
    value = reader.get("cash_in_lieu")
    if value in (None, {}):
        return None
    if not isinstance(value, Mapping):
        reader.wrong("cash_in_lieu", "is an object of currency, amount and quantity")
        return None
    inner = _Reader(value, reader.errors, "cash_in_lieu.")
    found = CashInLieu(inner.currency(), inner.positive("amount"), inner.positive("quantity"))
    inner.note_unknown()
    return found


def _symbol_change(reader: _Reader) -> SymbolChange:
    old, new = reader.con_id(), reader.con_id("new_con_id")
    if old and old == new:
        reader.wrong("new_con_id", "is another contract than con_id")
    return SymbolChange(old, new, reader.positive("numerator", ONE), reader.positive("denominator", ONE))


def _expiry(reader: _Reader) -> Expiry:
    return Expiry(reader.con_id(), reader.number("settlement_price", ZERO))


def _exercise(reader: _Reader) -> Exercise:
    option, underlying = reader.con_id(), reader.con_id("underlying_con_id")
    if option and option == underlying:
        reader.wrong("underlying_con_id", "is another contract than con_id")
    owners, quantity = reader.owners(), reader.maybe("quantity", reader.positive)
    for owner, part in owners:
        if part < 0:
            reader.wrong(f"owners.{owner}", "is above zero: how many contracts")
    if owners and quantity is not None and sum((part for _, part in owners), ZERO) != quantity:
        reader.wrong("owners", "do not add up to the quantity")
    return Exercise(option, underlying, owners, quantity)


def _reassignment(reader: _Reader) -> Reassignment:
    giver, receiver = reader.pair()
    return Reassignment(reader.text("exec_id"), giver, receiver, reader.maybe("quantity", reader.positive))


_PARSERS: dict[str, Callable[[_Reader], Event]] = {
    "deposit": _flow,
    "withdrawal": _flow,
    "interest": _interest,
    "fee": _fee,
    "transfer_cash": _transfer,
    "rebalance": _rebalance,
    "transfer_position": _transfer_position,
    "receipt": _receipt,
    "delivery": _delivery,
    "dividend": _income,
    "tax": _income,
    "split": _split,
    "symbol_change": _symbol_change,
    "expiry": _expiry,
    "exercise": _exercise,
    "reassignment": _reassignment,
}
