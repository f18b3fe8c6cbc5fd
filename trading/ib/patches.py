"""Make ib_async's log texts cheap: its wrapper formats whole trades and fills for every message, logged or not.

Rule: ``f"orderStatus: {trade}"`` is evaluated at every log level, and the dataclass repr of a trade walks all its fills
and log entries; so the cost of one message grows with the fills of its order, to 15 ms at 1,000 of them.
The replacements name the object in constant time. They change nothing but texts.
"""

from __future__ import annotations

from typing import Any

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


def apply() -> None:
    """Install the constant-time texts; calling it again changes nothing."""
    for cls, text in _REPRS:
        cls.__repr__ = cls.__str__ = text  # type: ignore[method-assign] # texts only, see the module's rule
