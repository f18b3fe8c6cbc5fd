"""Start a live session in the engine and follow it, for whoever waits at a terminal.

Leaves: running it (``engine.sessions``). Rule: nothing is called started before the engine said so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from strategies.exceptions import MatsError
from trading.market.session_status import OVER, Phase
from trading.models import CommandState
from trading.queries import engine_state
from trading.services import enqueue, wait_for
from trading.session_models import SessionRun
from trading.session_services import find_session

START_WAIT_S = 60.0
LOOK_S = 1.0
_OVER = [str(phase) for phase in OVER]


@dataclass(frozen=True, slots=True)
class Followed:
    """How it ended; ``error`` empty when it did in order."""

    error: str = ""
    no_engine: bool = False


def follow_live(name: str, is_stop_wanted: Callable[[], bool], tell: Callable[[str], object]) -> Followed:
    """Start a saved live session, tell how far it is until it ends; ask the engine to stop it when wanted."""
    if not engine_state()["running"]:
        return Followed("No engine runs. Start it (manage.py run_engine) and try again.", no_engine=True)
    try:
        find_session(name)
        started = wait_for(enqueue("start_session", {"session": name}, source="cli").pk, START_WAIT_S)
    except MatsError as error:
        return Followed(f"{error.message} A live session is run from a saved configuration.")
    if started.state != CommandState.DONE:
        return Followed(started.error or f"The engine did not start it: {started.state}.")
    told = ""
    while True:
        run = SessionRun.objects.filter(name=name).first()
        if run is None:
            return Followed("The engine told nothing of the session.")
        line = f"{run.phase}  {run.clock_at:%H:%M:%S}Z  {run.message}" if run.clock_at else str(run.phase)
        if (line != told and run.phase in _OVER) or line[:12] != told[:12]:
            tell(line)
            told = line
        if run.phase in _OVER:
            return Followed(run.message if run.phase == Phase.FAILED else "")
        if is_stop_wanted():
            stopped = wait_for(enqueue("stop_session", {"session": name}, source="cli").pk, START_WAIT_S)
            return Followed("" if stopped.state == CommandState.DONE else stopped.error)
        time.sleep(LOOK_S)
