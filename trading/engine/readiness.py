"""Refuse what makes no sense without a gateway, before anything is on record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from strategies.exceptions import ConflictError, TransientError
from trading.engine import gate as gates

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

GATE_WAIT_S = 10.0


def require_connection(engine: StrategyManager) -> None:
    """Refuse when the gate is shut for want of a gateway; wait a moment while the books are being compared."""
    gate = engine.gate
    if not gate.is_open and gate.reason == gates.NOT_RECONCILED:
        gate.wait_open(GATE_WAIT_S)
    if not gate.is_open and gate.reason == gates.NOT_CONNECTED:
        raise TransientError("The engine has no connection to the gateway.", code="no_connection")
    if not gate.is_open and gate.reason == gates.ENGINE_STOPPING:
        raise ConflictError("The engine is stopping.", code="engine_stopping")
