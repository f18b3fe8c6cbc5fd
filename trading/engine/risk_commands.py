"""Commands about risk: the kill levels, and what an order would do to the margin.

Owns: one function per kind. Leaves: doing (``kill``, ``margin``), who may (pages and API ask).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ib_async import Contract

from portfolio.models import Instrument
from strategies.exceptions import ConflictError, LedgerError
from strategies.models import DISCRETIONARY
from trading.engine import kill
from trading.engine.margin import SMART_ROUTED, told, what_if
from trading.engine.requests import Request
from trading.engine.supervisor import find_strategy
from trading.orders.checking import written

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


def require_margin(engine: StrategyManager) -> None:
    """Refuse to start a strategy while the account is near a margin call.

    Figures that are not known yet refuse nothing here: every order asks again, and there what is not known denies.
    """
    limit = engine.risk.decisions.limits.find("margin_cushion", "", 0)
    if limit is None or not limit.value:
        return
    try:
        figures = engine.risk.account.figures(datetime.now(UTC))
    except LedgerError:
        return
    if figures.excess_liquidity is None or figures.net_liquidation <= 0:
        return
    cushion = figures.excess_liquidity / figures.net_liquidation
    if cushion < limit.value:
        raise ConflictError(
            f"The margin cushion is {cushion:.1%} of the account; starting needs {limit.value:.1%} ({limit.source}).",
            code="margin_cushion",
            limit=written(limit.value),
            value=written(cushion),
            source=limit.source,
        )


RISK_HANDLERS: dict[str, Callable[[StrategyManager, Request], Result]] = {
    "kill": kill_level,
    "what_if": what_if_order,
}
