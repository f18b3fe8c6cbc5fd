"""What an order asks beyond its head: trailing, times, groups and legs, read from the fields that its client sent.

Owns: their meaning and IB's refusals of what cannot be read.
Leaves: whether the venue takes the order (``exchange_checks``), what comes of it (``exchange_orders``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from trading.gateway.model import OrderRequest, RequestError
from trading.gateway.protocol_fields import parse_moment
from trading.gateway.protocol_place_order import LEG_FIELDS

# IB's spellings without their blanks mean the same.
_SPELLINGS = {
    "STPLMT": "STP LMT",
    "STOP": "STP",
    "TRAILLMT": "TRAIL LIMIT",
    "TRAIL LMT": "TRAIL LIMIT",
    "TRAILLIMIT": "TRAIL LIMIT",
}
TRAILING = frozenset({"TRAIL", "TRAIL LIMIT"})
CANCEL_GROUP, REDUCE_BLOCKED, REDUCE_OPEN = 1, 2, 3
_REGULAR_ONLY = frozenset({"MKT", "MOC", "LOC"})
_UNSET = frozenset({"", "1.7976931348623157E308", "1.7976931348623157e+308", "1.7976931348623157E+308"})


@dataclass(frozen=True, slots=True)
class ComboLeg:
    """One leg as ordered."""

    con_id: int
    ratio: Decimal
    is_buy: bool  # when the combination is bought
    exchange: str


@dataclass(frozen=True, slots=True)
class Terms:
    """The rest of an order. Units: prices of its contract, ``trail_percent`` in percent, times aware."""

    trail: Decimal | None = None
    trail_percent: Decimal | None = None
    trail_stop: Decimal | None = None  # where the trailing stop begins
    limit_offset: Decimal | None = None
    good_after: datetime | None = None
    good_till: datetime | None = None
    oca_type: int = REDUCE_OPEN
    legs: tuple[ComboLeg, ...] = ()


def normal(request: OrderRequest) -> OrderRequest:
    """The request with IB's first spelling of its type."""
    kind = _SPELLINGS.get(request.order_type, request.order_type)
    return request if kind == request.order_type else replace(request, order_type=kind)


def read_terms(request: OrderRequest, zone: str) -> Terms:
    """Read the terms of an order; times without a zone are the instrument's.

    Raises: RequestError 337 for a time that cannot be read, 321 for numbers and legs.
    """
    echo = request.echo
    return Terms(
        **_trailing(request),
        good_after=_moment(echo, "goodAfterTime", zone),
        good_till=_moment(echo, "goodTillDate", zone, whole_day=True),
        oca_type=_oca_type(echo),
        legs=read_legs(request),
    )


def works_outside_rth(request: OrderRequest, sec_type: str) -> bool:
    """Tell whether an order that asks for it works outside regular hours: IB ignores the wish of most others."""
    works = sec_type == "STK" and request.order_type not in _REGULAR_ONLY
    return request.outside_rth and works and request.tif != "OPG" and not request.algo_strategy


def _trailing(request: OrderRequest) -> dict[str, Decimal | None]:
    if request.order_type not in TRAILING:
        return {}
    echo = request.echo
    percent, stop, offset = (number(echo, name) for name in ("trailingPercent", "trailStopPrice", "lmtPriceOffset"))
    if offset is None and stop is not None and request.limit_price is not None:
        offset = request.limit_price - stop if request.action == "BUY" else stop - request.limit_price
    # Clients send 0 for an amount that is not meant.
    return {"trail": request.aux_price or None, "trail_percent": percent, "trail_stop": stop, "limit_offset": offset}


def _oca_type(echo: Mapping[str, str]) -> int:
    text = echo.get("ocaType", "")
    if text in ("", "0"):
        return REDUCE_OPEN
    if text not in ("1", "2", "3"):
        raise _invalid(f"Invalid OCA type: {text}")
    return int(text)


def read_legs(request: OrderRequest) -> tuple[ComboLeg, ...]:
    """Read the legs of a combination; none for any other contract.

    Raises: RequestError 321.
    """
    text = request.echo.get("comboLegs", "")
    if request.contract.sec_type != "BAG" or not text:
        return ()
    fields = text.split("\0")[1:]
    return tuple(_leg(fields[at : at + LEG_FIELDS]) for at in range(0, len(fields), LEG_FIELDS))


def _leg(fields: list[str]) -> ComboLeg:
    try:
        con_id, ratio, action, exchange = int(fields[0]), Decimal(int(fields[1])), fields[2], fields[3]
    except (IndexError, ValueError):
        raise _invalid("Invalid combo leg") from None
    if action not in ("BUY", "SELL") or ratio <= 0:
        raise _invalid("Invalid combo leg: BUY or SELL and a ratio above zero are needed")
    return ComboLeg(con_id, ratio, action == "BUY", exchange)


def number(echo: Mapping[str, str], name: str) -> Decimal | None:
    """A number that a client sent, None when it left it out."""
    text = echo.get(name, "")
    if text in _UNSET:
        return None
    value = Decimal(text)
    if not value.is_finite() or abs(value) > Decimal("1e15"):
        raise _invalid(f"Invalid value of {name}: {text}")
    return value


def _moment(echo: Mapping[str, str], name: str, zone: str, *, whole_day: bool = False) -> datetime | None:
    text = echo.get(name, "").strip()
    if not text:
        return None
    try:
        moment = parse_moment(text, zone)
    except ValueError:
        raise RequestError(
            337,
            f"{name}: The date, time, or time-zone entered is invalid. The correct format is yyyymmdd hh:mm:ss xx/xxxx "
            "where xx/xxxx is optional, or yyyymmdd-hh:mm:ss in UTC.",
        ) from None
    if whole_day and len(text) == len("yyyymmdd"):
        moment += timedelta(days=1)  # the end of that day, by the clock on its wall
    return moment


def _invalid(cause: str) -> RequestError:
    return RequestError(321, f"Error validating request.-'bK' : cause - {cause}")
