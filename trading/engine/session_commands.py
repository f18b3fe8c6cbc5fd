"""What the engine does for commands about sessions and scanners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trading.engine.readiness import require_connection

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

Args = Mapping[str, Any]
Result = dict[str, Any]


def start_session(engine: StrategyManager, args: Args) -> Result:
    """Start a live session and wait until its strategies run."""
    require_connection(engine)
    return engine.sessions.start(args["session"])


def pause_session(engine: StrategyManager, args: Args) -> Result:
    """Have a session's strategies hear nothing."""
    return engine.sessions.pause(args["session"])


def resume_session(engine: StrategyManager, args: Args) -> Result:
    """Have a paused session's strategies hear of bars again."""
    return engine.sessions.resume(args["session"])


def stop_session(engine: StrategyManager, args: Args) -> Result:
    """End a live session."""
    return engine.sessions.stop(args["session"])


def promote_symbol(engine: StrategyManager, args: Args) -> Result:
    """Add a symbol to a running session."""
    return engine.sessions.promote(args["session"], args["ticker"])


def run_scanner(engine: StrategyManager, args: Args) -> Result:
    """Scan once, now."""
    require_connection(engine)
    return engine.sessions.scan(args["scanner"])


SESSION_HANDLERS: dict[str, Callable[[StrategyManager, Args], Result]] = {
    "start_session": start_session,
    "pause_session": pause_session,
    "resume_session": resume_session,
    "stop_session": stop_session,
    "promote_symbol": promote_symbol,
    "run_scanner": run_scanner,
}
