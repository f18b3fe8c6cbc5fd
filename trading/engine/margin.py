"""What IB says an order would do to the margin: its whatIf, asked through the master.

Rule: an answer that does not come, or comes without figures, is an error, never «no effect».
"""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import Any, Protocol

from ib_async import Contract, Order

from strategies.combos import COMBINATION
from strategies.exceptions import TransientError
from strategies.sizing import build_order
from trading.engine.events import plain
from trading.ib.requests import ask, qualify
from trading.orders.facts import MarginImpact

ANSWER_S = 10.0
SMART_ROUTED = frozenset({"STK", "OPT"})
_UNSET = Decimal("1e100")  # IB's «no value» is the largest double


class Session(Protocol):
    """The master's session."""

    connection: Any

    def run(self, make: Any, timeout_s: float) -> Any:
        """Run a coroutine on the master's loop and return its result."""

    def begin(self, make: Any) -> Any:
        """Start a coroutine on the master's loop and return its future at once."""


def what_if(
    session: Session,
    contract: Contract,
    quantity: Decimal,
    order_type: str = "MKT",
    *,
    limit: Decimal | None = None,
    stop: Decimal | None = None,
) -> MarginImpact:
    """Return what an order would do; nothing is placed. Blocks its thread.

    Raises: OrderDeniedError for what is no order; NotFoundError; TransientError when IB does not answer or refuses.
    """
    order = build_order(
        quantity,
        order_type,
        algo=False,
        urgency="Patient",
        limit=limit,
        stop=stop,
        use_rth=False,
        tif="DAY",
        transmit=True,
    )
    impact: MarginImpact = session.run(lambda: impact_of(session, contract, order), ANSWER_S * 2)
    return impact


def master_of(session: Session) -> Any:
    """Return the master's connection.

    Raises: TransientError (no_connection) while it is down.
    """
    connection = session.connection
    if connection is None or not connection.connected:
        raise TransientError("The master is not connected to the gateway.", code="no_connection")
    return connection


async def impact_of(session: Session, contract: Contract, order: Order) -> MarginImpact:
    """Ask IB on the master's loop.

    Raises: NotFoundError; TransientError when IB does not answer or refuses.
    """
    connection = master_of(session)
    is_whole = contract.secType == COMBINATION or (contract.conId and contract.exchange)
    meant = contract if is_whole else await qualify(connection.ib, contract)
    order.account = connection.account
    try:
        found: Any = await ask(connection.ib.whatIfOrderAsync(meant, order), "margin of an order", timeout_s=ANSWER_S)
    except ConnectionError as error:  # raised while it was sent
        raise TransientError(f"The connection to IB is down: {error}", code="not_connected") from error
    if isinstance(found, list):  # ib_async's word for «refused»
        raise TransientError("IB refused to say what the order would do.", code="request_refused")
    return MarginImpact(
        initial_margin_change=_number(found.initMarginChange),
        maintenance_margin_change=_number(found.maintMarginChange),
        initial_margin_after=_number(found.initMarginAfter),
        maintenance_margin_after=_number(found.maintMarginAfter),
        equity_with_loan_after=_number(found.equityWithLoanAfter),
        commission=_number(found.commission),
        warning=str(found.warningText or ""),
    )


def _number(value: object) -> Decimal | None:
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        return None
    return number if number.is_finite() and abs(number) < _UNSET else None


def told(impact: MarginImpact) -> dict[str, Any]:
    """Return an impact as JSON: decimals as text, unknown null."""
    return {name: plain(value) if isinstance(value, Decimal) else value for name, value in asdict(impact).items()}
