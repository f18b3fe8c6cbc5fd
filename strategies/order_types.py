"""What each order type needs and takes: one table for strategies, checks, API and ticket. Pure.

Units: prices per unit in the contract's currency; ``trail`` in that currency, ``trail_percent`` in per cent of the
price (as IB counts it: 1.5 means 1.5 %).
Source: IB's pages on order types and times in force; the TWS API's order class.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from strategies.exceptions import OrderDeniedError


@dataclass(frozen=True, slots=True)
class OrderType:
    """One type. ``tifs`` are the times in force that IB takes with it."""

    name: str
    title: str
    limit: bool = False  # needs a limit price
    stop: bool = False  # needs a trigger price
    trail: bool = False  # needs an amount or a percentage, and may have a first trigger
    offset: bool = False  # needs the limit's distance from the trigger
    adaptive: bool = False
    outside_rth: bool = False  # may be worked outside regular hours
    tifs: frozenset[str] = frozenset({"DAY", "GTC", "GTD"})


_ANY = frozenset({"DAY", "GTC", "GTD", "IOC", "FOK", "OPG"})
_CLOSE = frozenset({"DAY"})  # IB: 113, the time in force of MOC and LOC is DAY

_TYPES = (
    OrderType("MKT", "Market", adaptive=True, tifs=_ANY),
    OrderType("LMT", "Limit", limit=True, adaptive=True, outside_rth=True, tifs=_ANY),
    OrderType("STP", "Stop", stop=True, outside_rth=True),
    OrderType("STP LMT", "Stop limit", limit=True, stop=True, outside_rth=True),
    OrderType("TRAIL", "Trailing stop", trail=True, outside_rth=True),
    OrderType("TRAIL LIMIT", "Trailing stop limit", trail=True, offset=True, outside_rth=True),
    OrderType("MOC", "Market on close", tifs=_CLOSE),
    OrderType("LOC", "Limit on close", limit=True, tifs=_CLOSE),
    OrderType("MIT", "Market if touched", stop=True, outside_rth=True),
    OrderType("LIT", "Limit if touched", limit=True, stop=True, outside_rth=True),
)
TYPES: dict[str, OrderType] = {row.name: row for row in _TYPES}
TIFS: dict[str, str] = {
    "DAY": "today",
    "GTC": "until cancelled",
    "GTD": "until a time",
    "IOC": "at once or not",
    "FOK": "whole at once or not",
    "OPG": "in the opening auction",
}
PROTECTIVE = frozenset({"STP", "STP LMT", "TRAIL", "TRAIL LIMIT"})


@dataclass(frozen=True, slots=True)
class Terms:
    """How an order is to be worked: everything but what, how much and for whom."""

    order_type: str = "MKT"
    limit: Decimal | None = None
    stop: Decimal | None = None
    trail: Decimal | None = None
    trail_percent: Decimal | None = None
    limit_offset: Decimal | None = None
    tif: str = "DAY"
    good_till: datetime | None = None
    good_after: datetime | None = None
    outside_rth: bool | None = None  # None: wherever the type allows it


def _deny(text: str, code: str) -> OrderDeniedError:
    return OrderDeniedError(text, code=code)


def check_terms(terms: Terms, sec_type: str = "STK") -> OrderType:
    """Return the type's row after checking that the terms are whole and fit together.

    A combination's price may be zero or negative; every other price and trigger is more than zero.
    Raises: OrderDeniedError naming what is missing, too much or unknown.
    """
    kind = TYPES.get(terms.order_type)
    if kind is None:
        known = ", ".join(TYPES)
        raise _deny(f"Order type {terms.order_type!r} is unknown; use one of {known}.", "unknown_order_type")
    _check_limit(kind, terms, may_be_negative=sec_type == "BAG")
    _check_stop(kind, terms)
    _check_trail(kind, terms)
    _check_times(kind, terms)
    return kind


def _check_limit(kind: OrderType, terms: Terms, *, may_be_negative: bool) -> None:
    if not kind.limit:
        return
    if terms.limit is None or not terms.limit.is_finite() or not (terms.limit > 0 or may_be_negative):
        article = "A limit" if kind.name == "LMT" else f"A {kind.name}"
        raise _deny(f"{article} order needs a limit price.", "limit_missing")


def _check_stop(kind: OrderType, terms: Terms) -> None:
    if kind.stop and not _is_positive(terms.stop):
        article = "A stop" if kind.name == "STP" else f"A {kind.name}"
        raise _deny(f"{article} order needs a stop price.", "stop_missing")


def _check_trail(kind: OrderType, terms: Terms) -> None:
    if not kind.trail:
        if terms.trail is not None or terms.trail_percent is not None:
            raise _deny(f"{kind.name} trails nothing; use TRAIL or TRAIL LIMIT.", "bad_trail")
        return
    if (terms.trail is None) == (terms.trail_percent is None):
        raise _deny(f"{kind.name} needs either an amount or a percentage to trail by.", "trail_missing")
    if not _is_positive(terms.trail if terms.trail is not None else terms.trail_percent):
        raise _deny("What an order trails by is more than zero.", "bad_trail")
    if terms.trail_percent is not None and terms.trail_percent >= 100:
        raise _deny("An order cannot trail by 100 per cent or more.", "bad_trail")
    if terms.stop is not None and not _is_positive(terms.stop):
        raise _deny("The first trigger of a trailing order is more than zero.", "bad_trail")
    if kind.offset and (terms.limit_offset is None or not terms.limit_offset.is_finite()):
        raise _deny("TRAIL LIMIT needs the limit's distance from its trigger.", "offset_missing")
    if kind.offset and terms.stop is None:
        raise _deny("TRAIL LIMIT needs a first trigger.", "stop_missing")


def _check_times(kind: OrderType, terms: Terms) -> None:
    if terms.tif not in TIFS:
        raise _deny(f"Time in force {terms.tif!r} is unknown; use one of {', '.join(TIFS)}.", "unknown_tif")
    if terms.tif not in kind.tifs:
        taken = ", ".join(sorted(kind.tifs))
        raise _deny(f"{kind.name} takes no {terms.tif}; use one of {taken}.", "bad_tif")
    if (terms.tif == "GTD") != (terms.good_till is not None):
        raise _deny("GTD and the time until which the order is good belong together.", "good_till_missing")
    for moment in (terms.good_till, terms.good_after):
        if moment is not None and moment.tzinfo is None:
            raise _deny(f"{moment.isoformat()} has no time zone.", "naive_time")
    if terms.good_till is not None and terms.good_after is not None and terms.good_till <= terms.good_after:
        raise _deny("The order would end before it begins.", "bad_times")
    if terms.outside_rth and not kind.outside_rth:
        raise _deny(f"{kind.name} is worked in regular hours only.", "bad_rth")


def _is_positive(value: Decimal | None) -> bool:
    return value is not None and value.is_finite() and value > 0
