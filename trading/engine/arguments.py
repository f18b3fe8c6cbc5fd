"""How each argument of a command must look. Pure.

Owns: one check for each name. Leaves: which command takes which (``specs``), what an event of each kind needs
(``portfolio.ledger.events``), and whether what is named exists (the services).
Rule: nothing passes that was not looked at: text against a pattern, numbers within bounds, objects name by name.
Decimals are text, because JSON's numbers are not exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from strategies.order_types import TYPES

Check = Callable[[str, Any], str | None]

MAX_REASON = 400
MAX_OWNERS = 200
MAX_PARTS = 20
_MAX_ID = 2**63 - 1
_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
_ORDER_REF = re.compile(r"[A-Za-z0-9_./-]{1,64}")
_EXEC_ID = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .&/-]{0,31}")
_KEY = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_TICKER = re.compile(r"[A-Z][A-Z0-9. ]{0,11}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,10})?", re.ASCII)
_KINDS = (
    "deposit",
    "withdrawal",
    "transfer_cash",
    "transfer_position",
    "receipt",
    "delivery",
    "dividend",
    "tax",
    "interest",
    "fee",
    "split",
    "symbol_change",
    "expiry",
    "exercise",
)
BOOKABLE = frozenset(_KINDS)
"""What a person may book; rebalancing and reassignment have commands of their own."""


def _matching(pattern: re.Pattern[str], words: str = "is not a valid name") -> Check:
    def check(name: str, value: Any) -> str | None:
        if isinstance(value, str) and pattern.fullmatch(value):
            return None
        return f"{name} {words}."

    return check


def _whole(lowest: int, highest: int) -> Check:
    def check(name: str, value: Any) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest:
            return None
        return f"{name} must be a whole number from {lowest} to {highest}."

    return check


def _one_of(words: frozenset[str]) -> Check:
    def check(name: str, value: Any) -> str | None:
        if isinstance(value, str) and value in words:
            return None
        return f"{name} must be one of: {', '.join(sorted(words))}."

    return check


def _yes_or_no(name: str, value: Any) -> str | None:
    return None if isinstance(value, bool) else f"{name} must be true or false."


def _reason(name: str, value: Any) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return f"{name} is missing: say why in a few words."
    if len(value) > MAX_REASON:
        return f"{name} is longer than {MAX_REASON} characters."
    return None if _is_storable(value) else f"{name} holds characters that cannot be stored."


def _is_storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _moment(name: str, value: Any) -> str | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) and len(value) <= 40 else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 1970 <= moment.year <= 2200:
        return f"{name} must be a time with its zone, for example 2026-03-02T15:00:00Z."
    return None


def _owners(name: str, value: Any) -> str | None:
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_OWNERS:
        return f"{name} must be an object of owners and amounts."
    for owner, amount in value.items():
        if problem := _symbol(f"{name}: the owner", owner) or _decimal(f"{name}.{owner}", amount):
            return problem
    return None


def _cash_in_lieu(name: str, value: Any) -> str | None:
    if not isinstance(value, Mapping) or set(value) != {"currency", "amount", "quantity"}:
        return f"{name} must be an object of currency, amount and quantity."
    found = [_currency(f"{name}.currency", value["currency"])]
    found += [_decimal(f"{name}.{part}", value[part]) for part in ("amount", "quantity")]
    return next((problem for problem in found if problem), None)


def _weight(name: str, value: Any) -> str | None:
    problem = _decimal(name, value)
    if problem is None and not 0 <= Decimal(value) <= 1:
        problem = f"{name} must lie between 0 and 1."
    return problem


def _ratio(name: str, value: Any) -> str | None:
    return _decimal(name, str(value) if isinstance(value, int) and not isinstance(value, bool) else value)


_symbol = _matching(_SYMBOL)
_currency = _matching(_CURRENCY, "must be a currency's three capital letters")
_decimal = _matching(_DECIMAL, "must be a decimal as text, at most 18 digits and 10 decimals")
_id = _whole(1, _MAX_ID)

DETAILS: dict[str, Check] = {
    "owner": _symbol,
    "from": _symbol,
    "to": _symbol,
    "owners": _owners,
    "currency": _currency,
    "amount": _decimal,
    "quantity": _decimal,
    "price": _decimal,
    "settlement_price": _decimal,
    "con_id": _id,
    "new_con_id": _id,
    "underlying_con_id": _id,
    "numerator": _ratio,
    "denominator": _ratio,
    "cash_in_lieu": _cash_in_lieu,
    "exec_id": _matching(_EXEC_ID, "is not an execution id"),
}


def _details(name: str, value: Any) -> str | None:
    if not isinstance(value, Mapping) or not value:
        return f"{name} must be an object."
    problems = []
    for part, given in value.items():
        check = DETAILS.get(part)
        problems.append(f"{name} takes no {str(part)[:40]}." if check is None else check(f"{name}.{part}", given))
    return " ".join(problem for problem in problems if problem) or None


def _object(name: str, value: Any) -> str | None:
    """Look at the size alone: ``orders.wishes`` reads it part by part."""
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_PARTS:
        return f"{name} must be an object of at most {MAX_PARTS} parts."
    return None


CHECKS: dict[str, Check] = {
    "contract": _object,
    "new_contract": _object,
    "order": _object,
    "take_profit": _object,
    "stop_loss": _object,
    "limit": _decimal,
    "stop": _decimal,
    "trail": _decimal,
    "trail_percent": _decimal,
    "pattern": _matching(_PATTERN, "must be 1 to 32 letters, digits, dots, blanks or dashes"),
    "con_id": _id,
    "level": _whole(1, 5),
    "limit_price": _decimal,
    "order_type": _one_of(frozenset(TYPES)),
    "stop_price": _decimal,
    "symbol": _symbol,
    "session": _matching(_NAME),
    "scanner": _matching(_NAME),
    "ticker": _matching(_TICKER, "must be a ticker in capitals"),
    "strategy": _symbol,
    "owner": _symbol,
    "from_owner": _symbol,
    "owners": _owners,
    "order_ref": _matching(_ORDER_REF),
    "client_id": _whole(0, 99),
    "kind": _one_of(BOOKABLE),
    "details": _details,
    "reason": _reason,
    "key": _matching(_KEY, "must be 1 to 64 letters, digits, dots, colons, dashes or underscores"),
    "effective_at": _moment,
    "propose": _yes_or_no,
    "force": _yes_or_no,
    "accept_margin": _yes_or_no,
    "weight": _weight,
    "adjustment": _id,
    "parked": _id,
    "finding": _id,
    "break_id": _id,
    "alert": _id,
    "exec_id": _matching(_EXEC_ID, "is not an execution id"),
    "quantity": _decimal,
    "sha256": _matching(_SHA256, "must be the SHA-256 of an uploaded statement"),
    "action": _one_of(frozenset({"retry", "discard"})),
}
