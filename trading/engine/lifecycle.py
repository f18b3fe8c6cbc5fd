"""Lifecycle of a strategy in the engine: states and legal moves. Pure.

stopped ──▶ starting ──▶ running ──▶ stopping ──▶ stopped
               │            │            │
               └──▶ failed ◀┴────────────┘        failed ──▶ starting
"""

from __future__ import annotations

from enum import StrEnum

from strategies.exceptions import ConflictError


class StrategyState(StrEnum):
    """Where a strategy stands."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"


MOVES: dict[StrategyState, frozenset[StrategyState]] = {
    StrategyState.STOPPED: frozenset({StrategyState.STARTING, StrategyState.FAILED}),
    StrategyState.STARTING: frozenset({StrategyState.RUNNING, StrategyState.STOPPING, StrategyState.FAILED}),
    StrategyState.RUNNING: frozenset({StrategyState.STOPPING, StrategyState.FAILED}),
    StrategyState.STOPPING: frozenset({StrategyState.STOPPED, StrategyState.FAILED}),
    StrategyState.FAILED: frozenset({StrategyState.STARTING, StrategyState.STOPPED}),
}


def move(current: StrategyState, target: StrategyState) -> StrategyState:
    """Return ``target``.

    Raises: ConflictError when the move is not in the table.
    """
    if target not in MOVES[current]:
        raise ConflictError(f"A strategy that is {current} cannot become {target}.", code=f"strategy_{current}")
    return target
