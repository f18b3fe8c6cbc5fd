"""Serve account values, summaries, positions and profit and loss, now and as they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from . import protocol_messages as m
from . import protocol_responses as respond
from .model import AccountRow, RequestError
from .session import Session, SummarySubscription, ValueSubscription
from .wire_context import ACCOUNT_PERIOD_S, REFRESH_PERIOD_S, Context, refuse_duplicate

MAX_SUMMARIES = 2
_LEDGER_KEYS = frozenset(
    {
        "CashBalance", "TotalCashBalance", "AccruedCash", "StockMarketValue", "OptionMarketValue", "FuturesPNL",
        "NetLiquidationByCurrency", "UnrealizedPnL", "RealizedPnL", "ExchangeRate", "FundValue", "NetDividend",
        "FxCashBalance", "Currency", "RealCurrency", "AccountOrGroup", "NetLiquidation",
    }
)  # fmt: skip


@dataclass(slots=True)
class AccountStreams:
    """When account figures last went out."""

    refreshed_s: float | None = None
    pnl_s: float | None = None


def account_updates(context: Context, session: Session, request: m.RequestAccountUpdates) -> None:
    """Start account values and portfolio rows with a full download, or stop them."""
    if not request.subscribe:
        session.account_updates = None
        return
    account = context.account(request.account, "bF")
    replaced = session.account_updates
    if replaced is not None and replaced.account != account:
        session.error(
            -1, 2100, f"New account data requested from TWS. API client has been unsubscribed from {replaced.account}."
        )
    session.account_updates = ValueSubscription(account)
    download(context, session)
    session.send(respond.account_download_end(account))


def download(context: Context, session: Session) -> None:
    """Queue every account value and portfolio row."""
    subscription = session.account_updates
    if subscription is None:
        return
    now = context.now()
    subscription.sent.clear()
    _send_values(session, subscription, context.venue.account_values(now))
    session.send(*(respond.portfolio_value(row) for row in context.venue.positions(now)))
    session.send(respond.account_time(now))
    subscription.sent_s = context.uptime_s


def account_updates_multi(context: Context, session: Session, request: m.RequestAccountUpdatesMulti) -> None:
    """Start account values under a request id."""
    refuse_duplicate(request.req_id in session.account_multi)
    account = context.account(request.account, "bN")
    rows = context.venue.account_values(context.now())
    if request.ledger_and_nlv:
        rows = [row for row in rows if row.key in _LEDGER_KEYS]
    session.account_multi[request.req_id] = subscription = ValueSubscription(account)
    _send_multi(session, request.req_id, subscription, rows)
    session.send(respond.account_update_multi_end(request.req_id))


def cancel_account_updates_multi(context: Context, session: Session, request: m.CancelAccountUpdatesMulti) -> None:
    """Stop them."""
    session.account_multi.pop(request.req_id, None)


def account_summary(context: Context, session: Session, request: m.RequestAccountSummary) -> None:
    """Start a summary; a client may have two."""
    refuse_duplicate(request.req_id in session.summaries)
    if len(session.summaries) >= MAX_SUMMARIES:
        raise RequestError(
            322, "Error processing request.-'bX' : cause - Maximum number of account summary requests exceeded"
        )
    session.summaries[request.req_id] = subscription = SummarySubscription(request.tags)
    _send_summary(context, session, request.req_id, subscription)
    session.send(respond.account_summary_end(request.req_id))


def cancel_account_summary(context: Context, session: Session, request: m.CancelAccountSummary) -> None:
    """Stop it."""
    session.summaries.pop(request.req_id, None)


def positions(context: Context, session: Session, request: m.RequestPositions) -> None:
    """Start position rows with what is held."""
    session.positions = True
    session.send(*(respond.position(row) for row in context.venue.positions(context.now())), respond.position_end())


def cancel_positions(context: Context, session: Session, request: m.CancelPositions) -> None:
    """Stop them."""
    session.positions = False


def positions_multi(context: Context, session: Session, request: m.RequestPositionsMulti) -> None:
    """Start position rows under a request id."""
    refuse_duplicate(request.req_id in session.positions_multi)
    session.positions_multi[request.req_id] = context.account(request.account, "bP")
    rows = context.venue.positions(context.now())
    session.send(*(respond.position_multi(request.req_id, row) for row in rows))
    session.send(respond.position_multi_end(request.req_id))


def cancel_positions_multi(context: Context, session: Session, request: m.CancelPositionsMulti) -> None:
    """Stop them."""
    session.positions_multi.pop(request.req_id, None)


def pnl(context: Context, session: Session, request: m.RequestPnl) -> None:
    """Start the account's profit and loss, about once a second."""
    refuse_duplicate(request.req_id in session.pnl)
    session.pnl[request.req_id] = context.account(request.account, "bS")
    session.send(respond.pnl(request.req_id, context.venue.pnl(context.now())))


def cancel_pnl(context: Context, session: Session, request: m.CancelPnl) -> None:
    """Stop it."""
    if session.pnl.pop(request.req_id, None) is None:
        raise RequestError(10185, "Failed to cancel PNL (not subscribed)")


def pnl_single(context: Context, session: Session, request: m.RequestPnlSingle) -> None:
    """Start one position's profit and loss, about once a second."""
    refuse_duplicate(request.req_id in session.pnl_single)
    context.account(request.account, "bT")
    figures = context.venue.pnl_single(request.con_id, context.now())
    session.pnl_single[request.req_id] = request.con_id
    session.send(respond.pnl_single(request.req_id, figures, session.version))


def cancel_pnl_single(context: Context, session: Session, request: m.CancelPnlSingle) -> None:
    """Stop it."""
    if session.pnl_single.pop(request.req_id, None) is None:
        raise RequestError(10186, "Failed to cancel PNL single (not subscribed)")


def stream(context: Context, streams: AccountStreams, now: datetime) -> None:
    """Queue what is due: changed values at most once a second, everything every three minutes, P&L every second."""
    if context.account_dirty and context.due(streams.refreshed_s, REFRESH_PERIOD_S):
        context.account_dirty = False
        streams.refreshed_s = context.uptime_s
        _refresh(context, now)
    if context.due(streams.pnl_s, REFRESH_PERIOD_S):
        streams.pnl_s = context.uptime_s
        _stream_pnl(context, now)
    for session in context.sessions.values():
        subscription = session.account_updates
        if subscription is not None and context.due(subscription.sent_s, ACCOUNT_PERIOD_S):
            download(context, session)


def _refresh(context: Context, now: datetime) -> None:
    readers = [s for s in context.sessions.values() if s.account_updates or s.account_multi or s.summaries]
    if not readers:
        return
    rows = context.venue.account_values(now)
    for session in readers:
        if session.account_updates:
            _send_values(session, session.account_updates, rows)
        for req_id, subscription in session.account_multi.items():
            known = [row for row in rows if (row.key, row.currency) in subscription.sent]
            _send_multi(session, req_id, subscription, known)
        for req_id, summary in session.summaries.items():
            _send_summary(context, session, req_id, summary)


def _changed(sent: dict[tuple[str, str], str], rows: Sequence[AccountRow]) -> list[AccountRow]:
    changed = [row for row in rows if sent.get((row.key, row.currency)) != row.value]
    sent.update({(row.key, row.currency): row.value for row in changed})
    return changed


def _send_values(session: Session, subscription: ValueSubscription, rows: Sequence[AccountRow]) -> None:
    session.send(*(respond.account_value(row, subscription.account) for row in _changed(subscription.sent, rows)))


def _send_multi(session: Session, req_id: int, subscription: ValueSubscription, rows: Sequence[AccountRow]) -> None:
    changed = _changed(subscription.sent, rows)
    session.send(*(respond.account_update_multi(req_id, subscription.account, row) for row in changed))


def _send_summary(context: Context, session: Session, req_id: int, summary: SummarySubscription) -> None:
    rows = _changed(summary.sent, context.venue.account_summary(summary.tags, context.now()))
    account = context.venue.accounts[0]
    session.send(*(respond.account_summary(req_id, account, row) for row in rows))


def _stream_pnl(context: Context, now: datetime) -> None:
    for session in context.sessions.values():
        if session.pnl:
            figures = context.venue.pnl(now)
            session.send(*(respond.pnl(req_id, figures) for req_id in session.pnl))
        for req_id, con_id in session.pnl_single.items():
            try:
                figures = context.venue.pnl_single(con_id, now)
            except RequestError:  # closed and forgotten by the venue: TWS falls silent as well
                continue
            session.send(respond.pnl_single(req_id, figures, session.version))
