"""Write executions, commissions and order statuses: the messages that come by thousands.

Owns: their field order and gates. Rule: the part of an execution that does not depend on the reader is spelled once.
"""

from __future__ import annotations

import struct

from .model import Commission, Execution, OrderBound, OrderSnapshot
from .protocol_fields import UNSET_DOUBLE, price, size, stamp
from .protocol_responses import contract_text, message
from .versions import PENDING_PRICE_REVISION

_PREFIX = struct.Struct(">I")


def execution_body(e: Execution) -> bytes:
    """Everything of execDetails that all readers share: from the order id to the last liquidity."""
    return (
        f"{e.order_id}\0{contract_text(e.contract)}\0{e.exec_id}\0{stamp(e.time)}\0{e.account}\0{e.exchange}\0{e.side}\0"
        f"{size(e.quantity)}\0{e.price:f}\0{e.perm_id}\0{e.client_id}\0{e.liquidation}\0{size(e.cum_quantity)}\0"
        f"{e.average_price:f}\0{e.order_ref}\0\0\0\0{e.last_liquidity}\0"
    ).encode()


def execution_details(req_id: int, body: bytes, version: int) -> bytes:
    """execDetails around a shared body; ``req_id`` is −1 for live executions."""
    tail = b"0\0" if version >= PENDING_PRICE_REVISION else b""
    payload = b"11\0%d\0%b%b" % (req_id, body, tail)
    return _PREFIX.pack(len(payload)) + payload


def execution_details_end(req_id: int) -> bytes:
    """execDetailsEnd."""
    return message("55", "1", str(req_id))


def commission_report(c: Commission) -> bytes:
    """commissionReport; realised P&L is the unset double on opening fills, as is the bond yield always."""
    realized = price(c.realized_pnl, UNSET_DOUBLE)
    return message("59", "1", c.exec_id, f"{c.amount:f}", c.currency, realized, UNSET_DOUBLE, "")


def order_bound(bound: OrderBound) -> bytes:
    """orderBound; its first field is the permId."""
    return message("100", str(bound.perm_id), str(bound.client_id), str(bound.order_id))


def order_status(o: OrderSnapshot) -> bytes:
    """orderStatus."""
    r = o.request
    return message(
        "3", str(r.order_id), o.status, size(o.filled), size(o.remaining), f"{o.average_price:f}", str(o.perm_id),
        str(r.parent_id), f"{o.last_price:f}", str(r.client_id), o.why_held, "0.0",
    )  # fmt: skip
