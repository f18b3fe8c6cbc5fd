"""Who may see which market data: subscriptions, delayed data, a competing session.

Owns: IB's codes and texts for data that are not subscribed, and the market data type of a stream.
Leaves: what is subscribed to the venue, ticks to ``wire_market``.
Rule: who has subscribed gets live data whatever type was asked for, frozen ones while the market is closed if those
were asked for; who has not gets delayed data if those were asked for (10167), and else an error (354, 10089).
"""

from __future__ import annotations

from datetime import datetime

from .model import Contract, Entitlement, RequestError
from .session import Session, TickSubscription
from .wire_context import Context

LIVE, FROZEN, DELAYED, DELAYED_FROZEN = 1, 2, 3, 4
COMPETING = "No market data during competing live session"
_DELAYED_TEXT = "Requested market data is not subscribed. Displaying delayed market data."


def open_ticks(
    context: Context, session: Session, req_id: int, subscription: TickSubscription, contract: Contract
) -> None:
    """Decide what a new stream shows; warn where it shows less than was asked for.

    Raises: RequestError 10197, 354 or 10089 when it shows nothing.
    """
    if context.venue.competing:
        raise RequestError(10197, COMPETING)
    subscription.is_option = contract.sec_type == "OPT"
    subscription.wanted = session.data_type
    subscription.entitlement = entitled = context.venue.entitlement(contract.con_id)
    if entitled in (Entitlement.DELAYED, Entitlement.NONE):
        if entitled is Entitlement.NONE or session.data_type in (LIVE, FROZEN):
            raise not_subscribed(contract, delayed=entitled is Entitlement.DELAYED)
        session.error(req_id, 10167, _DELAYED_TEXT)
    elif entitled is Entitlement.PARTIAL:
        text = "Part of requested market data is not subscribed. Subscription-independent ticks are still active."
        session.error(req_id, 10090, f"{text}{_place(contract)}/TOP/ALL")
    subscription.data_type = type_now(context, subscription, context.now())


def type_now(context: Context, subscription: TickSubscription, now: datetime) -> int:
    """The market data type of a stream at a moment, as message 58 tells it."""
    delayed = subscription.entitlement in (Entitlement.DELAYED, Entitlement.NONE)
    keeps = subscription.wanted in (FROZEN, DELAYED_FROZEN)
    if not keeps or context.venue.is_open(subscription.con_id, now):
        return DELAYED if delayed else LIVE
    return DELAYED_FROZEN if delayed else FROZEN


def silenced(context: Context, session: Session) -> bool:
    """Tell whether the user's data go elsewhere; each stream hears of it once."""
    if not context.venue.competing:
        session.silenced.clear()
        return False
    for req_id in session.ticks.keys() - session.silenced:
        session.silenced.add(req_id)
        session.error(req_id, 10197, COMPETING)
    return True


def need_live(context: Context, contract: Contract, code: int, prefix: str) -> None:
    """Refuse data that IB never delays.

    Raises: RequestError 10197, or ``code`` with ``prefix``.
    """
    if context.venue.competing:
        raise RequestError(10197, COMPETING)
    if context.venue.entitlement(contract.con_id) in (Entitlement.DELAYED, Entitlement.NONE):
        raise RequestError(code, f"{prefix}No market data permissions for {_exchange(contract)} {contract.sec_type}")


def not_subscribed(contract: Contract, *, delayed: bool, book: str = "TOP") -> RequestError:
    """IB's refusal of data without a subscription."""
    place = f"{_place(contract)}/{book}/ALL"
    if not delayed:
        return RequestError(354, f"Requested market data is not subscribed.{place}")
    return RequestError(
        10089,
        "Requested market data requires additional subscription for API. See link in 'Market Data Connections' dialog "
        f"for more details.Delayed market data is available.{place}",
    )


def _exchange(contract: Contract) -> str:
    return contract.primary_exchange or contract.exchange


def _place(contract: Contract) -> str:
    return f"{contract.symbol} {_exchange(contract)}"
