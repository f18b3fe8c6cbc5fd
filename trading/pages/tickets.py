"""The order ticket: which fields each type needs, and how a posted ticket becomes a command.

Owns: names and words of the fields, reading texts. Leaves: what fits together (``strategies.order_types``), sending.
Rule: what a type does not take is refused, never dropped: somebody who typed a limit meant it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from strategies.exceptions import ConfigError
from strategies.order_types import TYPES, OrderType
from trading.engine.events import iso
from trading.models import Order
from trading.orders.wishes import DISCRETIONARY
from trading.pages.forms import number, read_moment

LABELS = {
    "limit": "Limit price",
    "stop": "Stop price",
    "trail": "Trail by amount",
    "trail_percent": "Trail by per cent",
    "limit_offset": "Limit's distance from the stop",
}
CHANGEABLE = ("quantity", "limit", "stop", "trail", "trail_percent")
_COLUMNS = {"limit": "limit_price", "stop": "stop_price", "trail": "trail_amount"}


def fields_of(kind: OrderType) -> tuple[str, ...]:
    """Return the prices that a type takes, as the ticket shows them."""
    found = [("limit", kind.limit), ("stop", kind.stop or kind.trail), ("trail", kind.trail)]
    found += [("trail_percent", kind.trail), ("limit_offset", kind.offset)]
    return tuple(name for name, has in found if has)


def types_with(field: str) -> str:
    """Return the types that take a field, for the page's script."""
    return "|".join(name for name, kind in TYPES.items() if field in fields_of(kind))


def read_ticket(posted: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return the command that a posted ticket asks for: ``place_order``, or ``place_bracket`` when it has exits.

    Raises: ConfigError with the faulty fields in ``errors``.
    """
    args: dict[str, Any] = {"contract": _contract(posted), "order": _order(posted)}
    owner = posted.get("strategy", "").strip()
    if owner and owner != DISCRETIONARY:
        args["strategy"] = owner
    exits = {"take_profit": "limit", "stop_loss": "stop"}
    given = {name: {price: _number(posted, name)} for name, price in exits.items() if posted.get(name, "").strip()}
    for part in given.values():
        part["tif"] = "GTC"
    return ("place_bracket" if given else "place_order"), {**args, **given}


def _contract(posted: Mapping[str, str]) -> dict[str, Any]:
    con_id = posted.get("con_id", "").strip()
    if con_id.isdigit() and len(con_id) <= 10:
        found: dict[str, Any] = {"con_id": int(con_id)}
        exchange = posted.get("exchange", "").strip().upper()
        return found | ({"exchange": exchange} if exchange else {})
    names = ("symbol", "sec_type", "currency", "exchange", "expiry")
    texts = {name: posted.get(name, "").strip() for name in names}
    for name in ("symbol", "currency", "exchange"):
        texts[name] = texts[name].upper()
    if not texts["symbol"]:
        raise _bad("symbol", "Say which instrument.")
    return {name: text for name, text in texts.items() if text}


def _order(posted: Mapping[str, str]) -> dict[str, Any]:
    kind = TYPES.get(posted.get("order_type", ""))
    if kind is None:
        raise _bad("order_type", "Choose an order type.")
    order: dict[str, Any] = {"order_type": kind.name, "side": posted.get("side", "")}
    order["quantity"] = _number(posted, "quantity")
    for name in LABELS:
        if not posted.get(name, "").strip():
            continue
        if name not in fields_of(kind):
            raise _bad(name, f"{kind.title} takes no {LABELS[name].lower()}.")
        order[name] = _number(posted, name)
    order["tif"] = posted.get("tif", "") or "DAY"
    for name in ("good_till", "good_after"):
        moment = read_moment(posted.get(name, ""))
        if moment is not None:
            order[name] = iso(moment)
    for name in ("outside_rth", "algo"):
        if posted.get(name):
            order[name] = True
    if posted.get("urgency"):
        order["urgency"] = posted["urgency"]
    return order


def _number(posted: Mapping[str, str], name: str) -> str:
    try:
        return number(LABELS.get(name, name.replace("_", " ").capitalize()), posted.get(name, "").strip())
    except ValueError as error:
        raise _bad(name, str(error)) from None


def read_change(posted: Mapping[str, str], row: Order) -> dict[str, str]:
    """Return what a posted form changes of an order; what stands as it was is left out.

    Raises: ConfigError when nothing is to be changed.
    """
    found = {}
    for name in CHANGEABLE:
        if posted.get(name, "").strip():
            text = _number(posted, name)
            if Decimal(text) != getattr(row, _COLUMNS.get(name, name)):
                found[name] = text
    if not found:
        raise _bad("quantity", "Nothing is changed: every value is as it was.")
    return found


def change_fields(row: Order) -> list[tuple[str, str, Decimal | None]]:
    """Return name, label and present value of what can be changed of an order."""
    kind = TYPES.get(row.order_type)
    names = [name for name in CHANGEABLE if name == "quantity" or (kind is not None and name in fields_of(kind))]
    values = [(name, getattr(row, _COLUMNS.get(name, name))) for name in names]
    # IB moves a trailing order's trigger by itself, and it trails by one of both.
    kept = [
        (name, value) for name, value in values if value is not None and not (name == "stop" and kind and kind.trail)
    ]
    return [(name, LABELS.get(name, "Quantity"), value) for name, value in kept]


def _bad(field: str, message: str) -> ConfigError:
    return ConfigError(message, code="bad_order", errors={field: message})
