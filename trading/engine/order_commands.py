"""What the engine does for each kind of command about orders: placing, changing, settling, looking contracts up.

Owns: one function per kind. Leaves: cancelling (``commands``), reading a request (``order_requests``),
the way to the broker (``orders.trade_manager``), claiming and recording the outcome (``dispatch``).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import TimeoutError as NotInTimeError
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from strategies.exceptions import MatsError, TransientError
from strategies.models import DISCRETIONARY
from trading.engine.readiness import require_connection
from trading.engine.reconciler import write_orders
from trading.engine.requests import Request, Result
from trading.engine.supervisor import find_strategy
from trading.orders import services as orders
from trading.orders.wishes import read_bracket, read_contract, read_wish

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

BOOKS_WAIT_S = 30.0
CHANGEABLE = ("quantity", "limit", "stop", "trail", "trail_percent")


def owner_of(request: Request) -> str:
    """Return for whom the order is: a strategy, else Discretionary.

    Raises: NotFoundError when there is no such strategy.
    """
    named = str(request.args.get("strategy") or DISCRETIONARY)
    return DISCRETIONARY if named == DISCRETIONARY else find_strategy(named).symbol


def place_order(engine: StrategyManager, request: Request) -> Result:
    """Place one order."""
    wish = read_wish(request.args)
    owner = owner_of(request)
    require_connection(engine)
    ticket = engine.trade_manager.place_order(wish.contract, wish.order(), owner)
    return {"order_ref": ticket.order_ref, "strategy": owner}


def place_bracket(engine: StrategyManager, request: Request) -> Result:
    """Place an entry with its exits."""
    contract, family = read_bracket(request.args)
    owner = owner_of(request)
    require_connection(engine)
    tickets = engine.trade_manager.place_family(contract, family, owner)
    return {"order_refs": [ticket.order_ref for ticket in tickets], "strategy": owner}


def modify_order(engine: StrategyManager, request: Request) -> Result:
    """Change a working order; IB's next description of it says whether it took the change."""
    order_ref = str(request.args["order_ref"])
    values = {name: Decimal(request.args[name]) for name in CHANGEABLE if request.args.get(name) is not None}
    engine.trade_manager.modify_order(order_ref, **values)
    return {"order_ref": order_ref, **{name: f"{value:f}" for name, value in values.items()}}


def roll_future(engine: StrategyManager, request: Request) -> Result:
    """Move an owner's position from one future to another."""
    owner = owner_of(request)
    require_connection(engine)
    quantity, limit = request.args.get("quantity"), request.args.get("limit")
    ticket = engine.trade_manager.roll_future(
        read_contract(request.args["contract"]),
        read_contract(request.args["new_contract"]),
        None if quantity is None else Decimal(quantity),
        orderRef=owner,
        limit=None if limit is None else Decimal(limit),
    )
    return {"order_ref": ticket.order_ref, "strategy": owner}


def preview_order(engine: StrategyManager, request: Request) -> Result:
    """Say what would be sent, whether it passes the checks, and what IB says it would do to margin."""
    wish = read_wish(request.args)
    owner = owner_of(request)
    require_connection(engine)
    found: Result = engine.trade_manager.preview(wish.contract, wish.order(), owner)
    return found


def find_contracts(engine: StrategyManager, request: Request) -> Result:
    """Look instruments up by symbol or a part of a name."""
    return {"contracts": engine.trade_manager.find_contracts(str(request.args["pattern"]))}


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

    try:
        outcome = engine.message_queue.submit(_job, request.kind).result(BOOKS_WAIT_S)
    except NotInTimeError:
        text = "The books take too long over this; look whether it was done before asking again."
        raise TransientError(text, code="outcome_unknown") from None
    if isinstance(outcome, MatsError):
        raise outcome
    result: Result = outcome
    return result


ORDER_HANDLERS: dict[str, Callable[[StrategyManager, Request], Result]] = {
    "place_order": place_order,
    "place_bracket": place_bracket,
    "modify_order": modify_order,
    "roll_future": roll_future,
    "preview_order": preview_order,
    "find_contracts": find_contracts,
    "settle_order": settle_order,
}
