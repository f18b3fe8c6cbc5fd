"""What the engine does for each kind of command about orders: placing, changing, settling, looking contracts up.

Owns: one function per kind. Leaves: cancelling (``commands``), reading a request (``order_requests``),
the way to the broker (``orders.trade_manager``), claiming and recording the outcome (``dispatch``).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from strategies.exceptions import MatsError
from trading.engine.reconciler import write_orders
from trading.engine.requests import Request, Result
from trading.orders import services as orders

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

BOOKS_WAIT_S = 30.0


def settle_order(engine: StrategyManager, request: Request) -> Result:
    """End an UNKNOWN order on the caller's word."""
    order_ref = str(request.args["order_ref"])

    def _job() -> Result | MatsError:
        now = datetime.now(UTC)
        try:
            row = orders.settle(order_ref, request.reason, request.actor, now)
        except MatsError as refusal:  # an answer, not a fault of the job
            return refusal
        write_orders([row], now)
        return {"order_ref": order_ref, "state": str(row.state), "filled": f"{row.filled.normalize():f}"}

    outcome = engine.message_queue.submit(_job, request.kind).result(BOOKS_WAIT_S)
    if isinstance(outcome, MatsError):
        raise outcome
    result: Result = outcome
    return result


ORDER_HANDLERS: dict[str, Callable[[StrategyManager, Request], Result]] = {
    "settle_order": settle_order,
}
