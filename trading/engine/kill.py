"""The kill levels: from pausing one strategy to a flat account.

    1 pause    the owner sends nothing new           4 global   halt, and IB cancels every order, manual ones too
    2 cancel   pause, and its orders are cancelled   5 flatten  2 (a strategy) or 4 (the account), and positions close
    3 halt     the account sends nothing new

Owns: their order. Leaves: states (``trading.risk_services``), the way of a cancel (``trade_manager``), closing
(``flattening``).
Rule: what stops orders comes first and from memory; each level does what the one below does.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError
from django.db import connection as database

from strategies.exceptions import MatsError, TransientError
from trading.engine.flattening import flatten
from trading.engine.risk_alerts import tell_state
from trading.engine.standing import ACCOUNT
from trading.ib.requests import cancel_everything
from trading.orders import queries
from trading.orders.trading_state import TradingState
from trading.risk_services import set_state

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

logger = logging.getLogger(__name__)

PAUSE, CANCEL, HALT, GLOBAL_CANCEL, FLATTEN = 1, 2, 3, 4, 5
CANCEL_WAIT_S, STORED_WAIT_S = 10.0, 30.0
ON_ITS_WAY = timedelta(seconds=3)  # an order that IB has not answered by then may have no one who listens
_POLL_S = 0.05
MANUAL_TOO = "IB was asked to cancel every order of the account, orders made by hand in TWS included."


@dataclass(slots=True)
class Outcome:
    """What a level did. ``left`` are positions by owner and contract that are not flat."""

    level: int
    owner: str
    asked: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    working: list[str] = field(default_factory=list)
    left: dict[str, dict[str, str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    text: str = ""

    def told(self) -> dict[str, Any]:
        """Return it as a command's result."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def is_of_account(level: int, owner: str) -> bool:
    """Tell whether a level halts the account, whoever is named."""
    return level in (HALT, GLOBAL_CANCEL) or (level == FLATTEN and owner == ACCOUNT)


def kill(engine: StrategyManager, level: int, owner: str, reason: str, actor: str, source: str) -> Outcome:
    """Do a level for a strategy, or for the account where ``owner`` is empty (3 and 4 are the account's always).

    Raises: TransientError while there is no gateway for what needs one; then the states stand already.
    """
    if is_of_account(level, owner):
        owner = ACCOUNT
    outcome = Outcome(level, owner)
    _stop_orders(engine, outcome, reason, actor)
    stored = threading.Thread(
        target=_store, args=(engine, outcome, reason, actor, source), name="mats-kill-state", daemon=True
    )
    stored.start()  # beside the cancels: a ledger that is locked must not keep them
    try:
        _act(engine, outcome)
    finally:
        stored.join(STORED_WAIT_S)
    if stored.is_alive():
        outcome.errors["state/books"] = (
            "The state is not stored yet; it holds in memory and is stored as soon as it can."
        )
    outcome.working = queries.working_refs(owner or None)
    outcome.text = " ".join(part for part in (outcome.text, _told(outcome)) if part)
    logger.warning("kill level=%s owner=%s reason=%s left=%s", level, owner or "account", reason, outcome.left)
    return outcome


def _act(engine: StrategyManager, outcome: Outcome) -> None:
    level, owner = outcome.level, outcome.owner
    if level == CANCEL or (level == FLATTEN and owner != ACCOUNT):
        _cancel(engine, owner, outcome)
    if level == GLOBAL_CANCEL or (level == FLATTEN and owner == ACCOUNT):
        _cancel_everything(engine, outcome)
    if level == FLATTEN:
        closing = flatten(engine, owner)
        outcome.closed, outcome.left = closing.closed, closing.left
        outcome.errors.update(closing.errors)


def _told(outcome: Outcome) -> str:
    """Say in a sentence what came of it."""
    who = outcome.owner or "The account"
    parts = [f"{who} is halted."]
    if outcome.asked:
        parts.append(f"{len(outcome.asked)} orders were asked to be cancelled, {len(outcome.working)} still work.")
    if outcome.level == FLATTEN:
        left = ", ".join(f"{owner} {rows}" for owner, rows in outcome.left.items())
        parts.append(f"{len(outcome.closed)} closing orders were filled; {'left: ' + left if left else 'all is flat'}.")
    parts += [f"{what}: {why}" for what, why in outcome.errors.items()]
    return " ".join(parts)


def _stop_orders(engine: StrategyManager, outcome: Outcome, reason: str, actor: str) -> None:
    """Halt in memory, then in the file; what cannot be written is told and stops nothing."""
    owner = outcome.owner
    engine.risk.halt_now(owner, reason)
    try:
        if owner == ACCOUNT:
            engine.halt_file.write(reason, actor)
    except OSError as error:
        outcome.errors["file/halt"] = f"The halt file cannot be written: {error}"


def _store(engine: StrategyManager, outcome: Outcome, reason: str, actor: str, source: str) -> None:
    """Put the state into the books; on a thread of its own."""
    owner = outcome.owner
    try:
        set_state(owner, TradingState.HALTED, reason=reason, actor=actor, source=source)
        tell_state(owner, TradingState.HALTED, reason)
        engine.risk.reload()
    except DatabaseError as error:
        outcome.errors["state/books"] = f"The state could not be stored: {error} It holds, and is stored when it can."
        engine.on_halted(owner, reason, actor)
    except Exception as error:  # thread border: the caller tells it, and the halt holds in memory
        logger.exception("state not stored owner=%s", owner or "account")
        outcome.errors["state/books"] = f"The state could not be stored: {type(error).__name__}: {error}"
    finally:
        database.close()


def _cancel(engine: StrategyManager, owner: str, outcome: Outcome) -> None:
    found = engine.trade_manager.cancel_owner(owner or None)
    outcome.asked += found.asked
    outcome.errors.update(found.errors)
    _wait_gone(engine, owner or None, outcome)


def _cancel_everything(engine: StrategyManager, outcome: Outcome) -> None:
    outcome.asked += queries.working_refs()
    outcome.text = MANUAL_TOO
    left = engine.session.run(lambda: _global_cancel(engine), CANCEL_WAIT_S * 2)
    if not left and _is_any_on_its_way():
        while _is_any_on_its_way():  # IB's list may have been empty before they came
            time.sleep(_POLL_S)
        left = engine.session.run(lambda: _global_cancel(engine), CANCEL_WAIT_S * 2)
    if left:
        outcome.errors["orders/IB"] = f"IB still works {left} orders."


def _is_any_on_its_way() -> bool:
    return queries.is_any_on_its_way(datetime.now(UTC) - ON_ITS_WAY)


async def _global_cancel(engine: StrategyManager) -> int:
    """Have IB cancel everything and wait for it; return how many orders it still works.

    IB is asked, not the books: a hung strategy does not hear of its own cancels.
    """
    connection = engine.session.connection
    if connection is None or not connection.connected:
        raise TransientError("The master is not connected; nothing was cancelled.", code="no_connection")
    return await cancel_everything(connection.ib, wait_s=CANCEL_WAIT_S, answer_s=CANCEL_WAIT_S)


def _wait_gone(engine: StrategyManager, owner: str | None, outcome: Outcome) -> None:
    """Wait until no order works any more, at most so long, and cancel what was on its way to IB at first.

    What does not end is told as working.
    """
    deadline = time.monotonic() + CANCEL_WAIT_S
    while (left := queries.working_refs(owner)) and time.monotonic() < deadline:
        for order_ref in left:
            if order_ref not in outcome.asked and order_ref not in outcome.errors:
                _ask_again(engine, order_ref, outcome)
        time.sleep(_POLL_S)


def _ask_again(engine: StrategyManager, order_ref: str, outcome: Outcome) -> None:
    try:
        engine.trade_manager.cancel_order(order_ref)
    except MatsError as error:
        if error.code not in ("not_sent", "order_done"):  # its number is not on record yet: the next look may know it
            outcome.errors[order_ref] = error.message
    else:
        outcome.asked.append(order_ref)
