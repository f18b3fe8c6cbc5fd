"""Make ib_async's hot path cheap: log texts, the reading of fields, the reading of times. Results stay the same.

Rule: ``f"orderStatus: {trade}"`` is evaluated at every log level, and the dataclass repr of a trade walks all its fills
and log entries; so the cost of one message grows with the fills of its order, to 15 ms at 1,000 of them.
The replacements name the object in constant time; ``parse`` looks a class's fields up once instead of per message, and
the usual form of a time is read without strptime.
"""

from __future__ import annotations

import dataclasses
import gc
from datetime import date, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import ib_async.decoder
from ib_async.objects import CommissionReport, Execution, Fill, TradeLogEntry
from ib_async.order import Order, OrderStatus, Trade


def _trade(self: Any) -> str:
    order, status = self.order, self.orderStatus
    return (
        f"Trade(orderId={order.orderId}, ref={order.orderRef!r}, {order.action} {order.totalQuantity} "
        f"{self.contract.symbol}, status={status.status!r}, fills={len(self.fills)})"
    )


def _order(self: Any) -> str:
    return (
        f"Order(orderId={self.orderId}, permId={self.permId}, ref={self.orderRef!r}, "
        f"{self.action} {self.totalQuantity} {self.orderType})"
    )


def _order_status(self: Any) -> str:
    return f"OrderStatus(orderId={self.orderId}, {self.status!r}, filled={self.filled}, remaining={self.remaining})"


def _execution(self: Any) -> str:
    return f"Execution({self.execId!r}, {self.side} {self.shares}@{self.price}, ref={self.orderRef!r})"


def _fill(self: Any) -> str:
    return f"Fill({self.execution.execId!r}, {self.contract.symbol})"


def _commission(self: Any) -> str:
    return f"CommissionReport({self.execId!r}, {self.commission} {self.currency})"


def _log_entry(self: Any) -> str:
    return f"TradeLogEntry({self.status!r}, {self.errorCode})"


_REPRS: tuple[tuple[type, Any], ...] = (
    (Trade, _trade),
    (Order, _order),
    (OrderStatus, _order_status),
    (Execution, _execution),
    (Fill, _fill),
    (CommissionReport, _commission),
    (TradeLogEntry, _log_entry),
)


@lru_cache(maxsize=64)
def _numeric_fields(cls: Any) -> tuple[tuple[str, type, Any], ...]:
    fields = ((field.name, type(field.default), field.default) for field in dataclasses.fields(cls))
    return tuple(field for field in fields if field[1] in (int, float, bool))


def _parse(self: Any, obj: Any) -> None:
    values = obj.__dict__  # plain attributes: half the cost of getattr and setattr
    cls: Any = type(obj)
    for name, kind, default in _numeric_fields(cls):
        value = values[name]
        if value.__class__ is kind:
            continue  # a default that the message did not carry; what it carries is text
        if kind is bool:
            values[name] = bool(int(value)) if value else default
        else:
            values[name] = kind(value) if value else default


_decoder: Any = ib_async.decoder
_read_any_time = _decoder.parseIBDatetime


def _read_time(text: str) -> date | datetime:
    """Read ``yyyymmdd hh:mm:ss Zone``, the form of every execution, directly; leave the rest to ib_async."""
    if len(text) > 18 and text[8] == text[17] == " " and text[11] == text[14] == ":" and text[18] != " ":
        zone = ZoneInfo(text[18:])
        return datetime(
            int(text[:4]),
            int(text[4:6]),
            int(text[6:8]),
            int(text[9:11]),
            int(text[12:14]),
            int(text[15:17]),
            tzinfo=zone,
        )
    found: date | datetime = _read_any_time(text)
    return found


def tune_gc() -> None:
    """Have the collector look seldom, and at little at a time: every thread waits while it looks.

    For a process that lives on fills; call it once everything is loaded. Little becomes garbage in circles (see
    ``memory``), so looking seldom costs no memory.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 100)


def apply() -> None:
    """Install the replacements; calling it again changes nothing."""
    _decoder.Decoder.parse = _parse
    _decoder.parseIBDatetime = _read_time
    for cls, text in _REPRS:
        cls.__repr__ = cls.__str__ = text  # type: ignore[method-assign] # texts only, see the module's rule
