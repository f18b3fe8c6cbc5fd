"""Commands about risk: the kill levels, what an order or a strategy would do to the margin, whose margin there is.

Owns: one function per kind, and whether a strategy may be started. Leaves: doing (``kill``, ``margin``,
``margin_plan``, ``margin_shares``), who may (pages and API ask).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ib_async import Contract

from portfolio.models import Instrument
from strategies.models import DISCRETIONARY
from trading.engine import kill
from trading.engine.margin import SMART_ROUTED, told, what_if
from trading.engine.requests import Request
from trading.engine.supervisor import find_strategy

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

Result = dict[str, Any]


def kill_level(engine: StrategyManager, request: Request) -> Result:
    """Do a kill level and tell what is left."""
    owner = str(request.args.get("owner", ""))
    if owner not in ("", DISCRETIONARY):
        owner = find_strategy(owner).symbol
    return kill.kill(engine, request.args["level"], owner, request.reason, request.actor, request.source).told()


def what_if_order(engine: StrategyManager, request: Request) -> Result:
    """Ask IB what an order would do to the margin; nothing is placed."""
    args = request.args
    known = Instrument.objects.filter(con_id=args["con_id"]).first()
    sec_type = known.sec_type if known is not None else ""
    contract = Contract(conId=args["con_id"], exchange="SMART" if sec_type in SMART_ROUTED or not sec_type else "")
    prices = {name: Decimal(args[name]) if args.get(name) else None for name in ("limit_price", "stop_price")}
    impact = what_if(
        engine.session,
        contract,
        Decimal(args["quantity"]),
        args.get("order_type", "MKT"),
        limit=prices["limit_price"],
        stop=prices["stop_price"],
    )
    return told(impact)


def margin_plan(engine: StrategyManager, request: Request) -> Result:
    """Ask IB what a strategy could bind at a weight, its own where none is given; nothing changes.

    A limit that it would break is told as ``refused``.
    """
    row = find_strategy(str(request.args["symbol"]))
    weight = Decimal(request.args["weight"]) if request.args.get("weight") else row.target_weight
    return engine.planner.check(engine.planner.plan(row, weight), grants=False, accepted=True)[1]


def read_margin(engine: StrategyManager, request: Request) -> Result:
    """Read whose margin the account's is, now."""
    reading = engine.margin_shares.read_now()
    return {"known": reading.is_whole, "problem": reading.problem}


def allow_start(engine: StrategyManager, symbol: str, *, accepted: bool = False) -> Result:
    """Return what IB says a strategy could bind that is about to start; its room is taken.

    ``accepted``: a person lets it pass a limit. What cannot be found out refuses nothing here and is told: every order
    is checked again, and there what is not known denies.
    Raises: NotFoundError; ConflictError named by the limit of the account that it would break.
    """
    row = find_strategy(symbol)
    plan, told = engine.planner.check(engine.planner.plan(row, row.target_weight), grants=True, accepted=accepted)
    over = "" if told["refused"] is None else " It is started all the same, as was asked."
    level = "info" if plan.is_known and not over else "warning"
    engine.log(row.symbol, f"Margin: {told['text']}{over}", level)
    return told


def allow_resume(engine: StrategyManager, symbol: str) -> None:
    """Refuse as ``allow_start`` what would begin with nothing; who holds something is let go on looking after it."""
    if not any(one.owner == symbol for one in engine.risk.account.holdings()):
        allow_start(engine, symbol)


RISK_HANDLERS: dict[str, Callable[[StrategyManager, Request], Result]] = {
    "kill": kill_level,
    "what_if": what_if_order,
    "margin_plan": margin_plan,
    "read_margin": read_margin,
}
