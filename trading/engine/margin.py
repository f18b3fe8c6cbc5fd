"""What IB says an order would do to the margin: its whatIf, asked through the master.

Rule: an answer that does not come, or comes without figures, is an error, never «no effect».
"""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import Any, Protocol

from ib_async import Contract, Order

from strategies.exceptions import LedgerError, TransientError
from strategies.sizing import build_order
from trading.engine.events import plain
from trading.ib.requests import ask, qualify
from trading.orders.drafts import OrderDraft
from trading.orders.facts import MarginImpact

ANSWER_S = 10.0
_UNSET = Decimal("1e100")  # IB's «no value» is the largest double


class Session(Protocol):
    """The master's session."""

    connection: Any

    def run(self, make: Any, timeout_s: float) -> Any:
        """Run a coroutine on the master's loop and return its result."""


def what_if_draft(session: Session, draft: OrderDraft) -> MarginImpact:
    """Return what a draft would do. Blocks its thread for a round trip.

    Raises: LedgerError when IB does not say it.
    """
    contract = Contract(
        conId=draft.contract.con_id,
        symbol=draft.contract.symbol,
        secType=draft.contract.sec_type,
        exchange=draft.contract.exchange or "SMART",
        currency=draft.contract.currency,
    )
    try:
        return what_if(
            session,
            contract,
            draft.signed_quantity,
            draft.order_type,
            limit=draft.limit_price,
            stop=draft.stop_price,
        )
    except TransientError as error:
        raise LedgerError(f"IB does not say what the order does to the margin: {error.message}") from error


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
    impact: MarginImpact = session.run(lambda: _ask(session, contract, order), ANSWER_S * 2)
    return impact


async def _ask(session: Session, contract: Contract, order: Order) -> MarginImpact:
    connection = session.connection
    if connection is None or not connection.connected:
        raise TransientError("The master is not connected to the gateway.", code="no_connection")
    meant = contract if contract.conId and contract.exchange else await qualify(connection.ib, contract)
    order.account = connection.account
    found: Any = await ask(connection.ib.whatIfOrderAsync(meant, order), "margin of an order", timeout_s=ANSWER_S)
    if isinstance(found, list):  # ib_async's word for «refused»
        raise TransientError("IB refused to say what the order would do.", code="request_refused")
    return MarginImpact(
        initial_margin_change=_number(found.initMarginChange),
        maintenance_margin_change=_number(found.maintMarginChange),
        initial_margin_after=_number(found.initMarginAfter),
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
