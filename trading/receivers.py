"""What trading does when a strategy row is saved or about to be deleted.

Rule: a save asks the engine to mirror the table and to hand new parameters over; without an engine the requests wait.
"""

from __future__ import annotations

import logging
from typing import Any

from portfolio.arctic.registry import register_engine_holder, register_order_rows
from portfolio.reserved import register_needs
from strategies.models import Strategy
from strategies.services import delete_guards, growth_guards
from strategies.signals import strategy_deleted, strategy_saved
from trading.engine import proofs
from trading.engine.lease import lease_holder
from trading.engine.lifecycle import StrategyState
from trading.engine.order_rows import order_rows_after
from trading.growth import ask_margin
from trading.market import calendar_rows
from trading.models import CommandState, EngineCommand, StrategyRun
from trading.orders.reserves import order_needs
from trading.risk_services import bump
from trading.services import enqueue

logger = logging.getLogger(__name__)

_ENDED = (StrategyState.STOPPED, StrategyState.FAILED)


def connect() -> None:
    """Connect the receivers; safe to call twice."""
    strategy_saved.connect(on_strategy_saved, dispatch_uid="trading.on_strategy_saved")
    strategy_deleted.connect(on_strategy_deleted, dispatch_uid="trading.on_strategy_deleted")
    register_order_rows(order_rows_after)
    register_engine_holder(lease_holder)
    register_needs(order_needs)
    proofs.register()
    calendar_rows.connect()
    if running_guard not in delete_guards:
        delete_guards.append(running_guard)
    if ask_margin not in growth_guards:
        growth_guards.append(ask_margin)


def running_guard(symbol: str) -> str | None:
    """Forbid deleting a strategy that runs."""
    if StrategyRun.objects.filter(symbol=symbol).exclude(state__in=_ENDED).exists():
        return "It is running; stop it first."
    return None


def on_strategy_saved(sender: Any, strategy: Strategy, created: bool, **_: Any) -> None:
    """Ask for the mirror, and for new parameters where the strategy runs; its largest weight is a limit of orders."""
    bump()
    request_sync()
    if not created and StrategyRun.objects.filter(symbol=strategy.symbol).exclude(state__in=_ENDED).exists():
        enqueue("update_params", {"symbol": strategy.symbol}, source="save")


def on_strategy_deleted(sender: Any, symbol: str, **_: Any) -> None:
    """Ask for the mirror without the strategy."""
    request_sync()


def request_sync() -> None:
    """Queue one mirror of the strategy table, unless one waits already."""
    if not EngineCommand.objects.filter(kind="sync_strategies", state=CommandState.QUEUED).exists():
        enqueue("sync_strategies", {}, source="save")
