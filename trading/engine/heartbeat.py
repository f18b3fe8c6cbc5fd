"""What the engine tells of itself once a second, for the pages, the API and whoever watches the row.

Owns: the shape of ``EngineLease.status``. Leaves: the figures themselves to their parts.
Rule: nothing here waits or asks a database.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psutil

from trading.engine.reactive import ReactiveLife

if TYPE_CHECKING:
    from trading.engine.core import EngineCore


def heartbeat_status(engine: EngineCore, version: str) -> dict[str, Any]:
    """Return the figures of the heartbeat row."""
    process = psutil.Process()
    started_at = engine.started_at
    return {
        "state": engine.state,
        "message": engine.state_message,
        "account": engine.account_id,
        "gate": engine.gate.reason,
        "halted": dict(engine.gate.halted),
        "connections": engine.connection_rows(),
        "link": engine.link.status(),
        "budget": engine.budget.figures(time.monotonic()),
        "channels": engine.alert_sender.status(),
        "queue": _queue(engine),
        "reactive": _reactive(engine),
        "arctic": engine.projection.status(),
        "memory_mb": round(process.memory_info().rss / 1_048_576, 1),
        "threads": process.num_threads(),
        "started_at": started_at.isoformat().replace("+00:00", "Z") if started_at else None,
        "version": version,
    }


def _reactive(engine: EngineCore) -> dict[str, Any]:
    """Return bars and signals of the reactive strategies that run, by symbol."""
    running = engine.active_strategies
    return {symbol: one.figures() for symbol, one in running.items() if isinstance(one, ReactiveLife)}


def _queue(engine: EngineCore) -> dict[str, int]:
    figures = engine.message_queue.figures()
    return {
        "size": figures.size,
        "high_water": figures.high_water,
        "coalesced": figures.coalesced,
        "spilled": figures.spilled,
        "duplicates": figures.duplicates,
        "parked": engine.writer.figures.parked,
    }
