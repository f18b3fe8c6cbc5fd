"""What the engine itself decides about trading states, stored with an alert; on the message thread.

Owns: the words and alerts of halts, throttles and overfills. Leaves: the rows (``trading.risk_services``).
"""

from __future__ import annotations

from collections.abc import Iterable

from portfolio.ledger.money import plain
from strategies.models import DISCRETIONARY, Strategy
from trading.alerts import clear_alert, raise_alert
from trading.models import Order, Severity
from trading.orders.trading_state import TradingState
from trading.risk_services import set_state

ENGINE = "engine"


def alert_key(owner: str) -> str:
    """Return the key of the alert about an owner's trading state; empty is the account."""
    return f"risk:{owner or 'account'}"


def store_state(owner: str, state: TradingState, reason: str, by: str) -> None:
    """Store a state that is in force already, and tell people."""
    set_state(owner, state, reason=reason, actor=by or ENGINE, source=ENGINE)
    tell_state(owner, state, reason)


def tell_state(owner: str, state: TradingState, reason: str) -> None:
    """Have the alert of a trading state follow it."""
    if state is TradingState.ACTIVE:
        clear_alert(alert_key(owner))
        return
    who = owner or "The account"
    words = "takes no orders" if state is TradingState.HALTED else "takes only orders that reduce"
    severity = Severity.CRITICAL if state is TradingState.HALTED else Severity.WARNING
    text = f"{reason} Cancels pass. An administrator releases it on the Risk page, with a reason."
    raise_alert(alert_key(owner), severity, f"{who} {words}", text, owner)


def halt_overfilled(rows: Iterable[Order]) -> None:
    """Halt the strategy of an order that was filled beyond what was ordered; its fills are booked like any other."""
    for row in rows:
        if row.owner == DISCRETIONARY or not 0 < row.quantity < row.filled:
            continue
        reason = f"{row.order_ref} was overfilled: {plain(row.filled)} of {plain(row.quantity)} {row.symbol}."[:400]
        if Strategy.objects.filter(symbol=row.owner).exists():
            store_state(row.owner, TradingState.HALTED, reason, "")
