"""Which fields the form of each adjustment has, and how a posted form becomes ``details``.

Owns: names, order and words of the fields, and reading texts into JSON values. Leaves: what the values mean and whether
they fit together (``portfolio.ledger.events``, asked by the preview and by the engine).
Rule: an empty field is left out; nothing is guessed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from strategies.exceptions import ConfigError

MAX_REASON = 400


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``type``: owner, currency, number, whole, contract, shares or text."""

    name: str
    label: str
    type: str
    required: bool = True
    hint: str = ""


@dataclass(frozen=True, slots=True)
class KindForm:
    """The form of one kind; ``hint`` says what booking it does."""

    title: str
    hint: str
    fields: tuple[Field, ...]


_OWNER = Field("owner", "Owner", "owner")
_OWNER_OR_NONE = Field("owner", "Owner", "owner", required=False, hint="Empty: Discretionary")
_CURRENCY = Field("currency", "Currency", "currency")
_AMOUNT = Field("amount", "Amount", "number")
_CONTRACT = Field("con_id", "Contract", "contract")
_FROM, _TO = Field("from", "From", "owner"), Field("to", "To", "owner")
_SHARES = Field(
    "owners", "By owner", "shares", required=False, hint="OWNER=amount, one a line; empty: by what each held then"
)
_NUMERATOR = Field("numerator", "New", "number", hint="2 in a 2-for-1 split")
_DENOMINATOR = Field("denominator", "For old", "number", hint="1 in a 2-for-1 split")
_SIGNED = Field("amount", "Total amount", "number", hint="As it changed the cash: received +, paid −")

KINDS: dict[str, KindForm] = {
    "deposit": KindForm(
        "Deposit", "Money came into the account and belongs to one owner.", (_OWNER, _CURRENCY, _AMOUNT)
    ),
    "withdrawal": KindForm(
        "Withdrawal", "Money left the account, out of one owner's cash.", (_OWNER, _CURRENCY, _AMOUNT)
    ),
    "transfer_cash": KindForm("Transfer cash", "Money moves between two owners.", (_FROM, _TO, _CURRENCY, _AMOUNT)),
    "transfer_position": KindForm(
        "Transfer a position",
        "Units move between two owners; without a price at the giver's average cost, and nothing is realised.",
        (
            _FROM,
            _TO,
            _CONTRACT,
            Field("quantity", "Quantity", "number", hint="Unsigned"),
            Field("price", "Price", "number", required=False, hint="Empty: the giver's average cost"),
        ),
    ),
    "receipt": KindForm(
        "Receipt",
        "Units came into the account without a trade: from another broker, a spin-off, shares for nothing.",
        (
            _OWNER_OR_NONE,
            _CONTRACT,
            Field("quantity", "Quantity", "number", hint="Negative: a short position"),
            Field("price", "Cost per unit", "number", hint="0: given for nothing"),
        ),
    ),
    "delivery": KindForm(
        "Delivery",
        "Units left the account without a trade; they go at what they cost, and nothing is realised.",
        (_OWNER_OR_NONE, _CONTRACT, Field("quantity", "Quantity", "number", hint="Unsigned")),
    ),
    "dividend": KindForm(
        "Dividend", "Divided by what each owner held, to the cent.", (_CONTRACT, _CURRENCY, _SIGNED, _SHARES)
    ),
    "tax": KindForm("Tax withheld", "Divided like its dividend.", (_CONTRACT, _CURRENCY, _SIGNED, _SHARES)),
    "interest": KindForm(
        "Interest",
        "Interest on cash.",
        (_OWNER_OR_NONE, _CURRENCY, Field("amount", "Amount", "number", hint="Received +, paid −")),
    ),
    "fee": KindForm(
        "Fee",
        "A fee that came with no execution, or a correction of one execution's commission.",
        (
            _OWNER_OR_NONE,
            _CURRENCY,
            Field("amount", "Amount", "number", hint="Paid +, refunded −"),
            Field("con_id", "Contract", "contract", required=False),
            Field("exec_id", "Execution", "text", required=False, hint="Then the fee goes to its owners by share"),
        ),
    ),
    "split": KindForm(
        "Split",
        "Every owner's quantity is multiplied; what it cost stays.",
        (
            _CONTRACT,
            _NUMERATOR,
            _DENOMINATOR,
            Field("lieu_currency", "Cash in lieu: currency", "currency", required=False),
            Field("lieu_amount", "Cash in lieu: amount", "number", required=False),
            Field("lieu_quantity", "Cash in lieu: for units", "number", required=False),
        ),
    ),
    "symbol_change": KindForm(
        "Change of contract",
        "Positions move to another contract of IB.",
        (
            _CONTRACT,
            Field("new_con_id", "New contract", "contract"),
            Field("numerator", "New", "number", required=False, hint="Empty: 1"),
            Field("denominator", "For old", "number", required=False, hint="Empty: 1"),
        ),
    ),
    "expiry": KindForm(
        "Expiry",
        "Every owner's contracts are closed at the settlement price.",
        (_CONTRACT, Field("settlement_price", "Settlement price", "number", required=False, hint="Empty: worthless")),
    ),
    "exercise": KindForm(
        "Exercise or assignment",
        "Options become shares: long ones exercised, short ones assigned.",
        (
            Field("con_id", "Option", "contract"),
            Field("underlying_con_id", "Underlying", "contract"),
            Field("quantity", "Contracts", "number", required=False, hint="Empty: all"),
            Field("owners", "By owner", "shares", required=False, hint="OWNER=contracts, one a line"),
        ),
    ),
}


def read_details(kind: str, posted: Mapping[str, str]) -> dict[str, Any]:
    """Return the ``details`` of a posted form.

    Raises: ConfigError code bad_adjustment with ``errors`` by field name.
    """
    form = KINDS.get(kind)
    if form is None:
        raise ConfigError(f"There is no form for {kind!r}.", code="bad_adjustment", errors={"kind": "Choose a kind."})
    details: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for field in form.fields:
        text = posted.get(field.name, "").strip()
        if not text:
            if field.required:
                errors[field.name] = f"{field.label} is missing."
            continue
        try:
            details[field.name] = _value(field, text)
        except ValueError as error:
            errors[field.name] = str(error)
    if errors:
        raise ConfigError(" ".join(errors.values()), code="bad_adjustment", errors=errors)
    lieu = {
        name[5:]: details.pop(name) for name in ("lieu_currency", "lieu_amount", "lieu_quantity") if name in details
    }
    return {**details, "cash_in_lieu": lieu} if lieu else details


def _value(field: Field, text: str) -> Any:
    if field.type == "number":
        return number(field.label, text)
    if field.type == "contract":
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise ValueError(f"{field.label} is not one of IB's contract ids.")
        return int(text)
    if field.type == "currency":
        return text.upper()
    return _shares(field.label, text) if field.type == "shares" else text


def number(label: str, text: str) -> str:
    """Return a number as plain decimal text; a comma is taken for the decimal point only where it can be nothing else.

    Raises: ValueError in words for a person.
    """
    plain = text.strip().replace("−", "-").replace(" ", "")
    if "," in plain:
        whole, _, rest = plain.rpartition(",")
        if "." in plain or "," in whole or len(rest) == 3:
            raise ValueError(f"{label}: write {text} without thousands separators.")
        plain = f"{whole}.{rest}"
    try:
        value = Decimal(plain)
    except InvalidOperation:
        raise ValueError(f"{label}: {text} is not a number.") from None
    if not value.is_finite() or abs(value) >= Decimal(10) ** 18:
        raise ValueError(f"{label}: {text} is not a usable number.")
    return f"{value:f}"


def _shares(label: str, text: str) -> dict[str, str]:
    shares: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        owner, equals, amount = line.partition("=")
        if not equals or owner.strip() in shares:
            raise ValueError(f"{label}: write each owner once, as OWNER=amount, one a line.")
        shares[owner.strip()] = number(label, amount)
    return shares


def read_moment(text: str, label: str = "When") -> datetime | None:
    """Return a posted UTC time, None when the field is empty.

    Raises: ConfigError code bad_adjustment.
    """
    if not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        message = f"{label}: {text} is no time; write 2026-03-05T14:30."
        raise ConfigError(message, code="bad_adjustment", errors={"effective_at": message}) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def read_reason(posted: Mapping[str, str]) -> str:
    """Return why somebody does it; every action on the books needs it, since the audit trail keeps it.

    Raises: ConfigError code bad_arguments.
    """
    reason = " ".join(posted.get("reason", "").split())
    if not reason:
        message = "Say why; the audit trail keeps it."
        raise ConfigError(message, code="bad_arguments", errors={"reason": message})
    return reason[:MAX_REASON]
