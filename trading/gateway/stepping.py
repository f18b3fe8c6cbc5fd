"""Steps of a gateway whose market stands (``--clock step``): fills first, then the bar that they were in.

Owns: the order in which clients hear of a step, a run of steps in real time.
Leaves: what a bar does (``venue_steps``), who asks (``faults_desk``, tests).
Rule: on a real market a fill is known long before its bar is over. So is it here: between the fills of a bar and its
end lies a pause, or whatever a test waits for. All on the gateway's loop.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .faults import FaultError
from .model import Executed, RequestError
from .wire_context import BAR_SECONDS

if TYPE_CHECKING:
    from .server import GatewayServer

logger = logging.getLogger(__name__)

SETTLE_S = 0.3  # between the fills of a bar and its end
EVERY_S = 0.5  # for strategies to decide, by default
MOST_STEPS = 100_000


class Stepper:
    """Lets bars pass at one gateway."""

    def __init__(self, server: GatewayServer) -> None:
        self._server = server
        self._run: asyncio.Task[None] | None = None

    @property
    def _venue(self) -> Any:
        return self._server.venue  # Any: only the paper venue itself goes by steps

    def pass_bar(self) -> int:
        """Let the next bar pass and tell of its fills; return how many there were. Its end is told by ``end_bar``.

        Raises: RequestError 321 where the market runs by itself, or has no bar left.
        """
        self._server.hub.context.now()  # starts a market that nobody looked at
        begin, events = self._venue.pass_bar()
        self._server.publish(events)
        # Here rather than at the next tick: behind a night only the newest piece of a bar would be sent.
        self._server.hub.stream_bars(begin + timedelta(seconds=BAR_SECONDS))
        self._server.flush()
        return sum(isinstance(event, Executed) for event in events)

    def end_bar(self) -> datetime:
        """Let the bar that passed be over and send it; return the moment at which the market stands."""
        now: datetime = self._venue.end_bar()
        self._server.hub.stream_bars(now)
        self._server.flush()
        return now

    def begin(self, count: int, every_s: float) -> str:
        """Take so many steps, one after the other; 0 ends those that are under way.

        Raises: FaultError while others are under way.
        """
        if self._run is not None and not self._run.done():
            if count:
                raise FaultError("Steps are under way; «step 0» ends them.")
            self._run.cancel()
            return "no more steps"
        if not count:
            return "no steps are under way"
        if count > MOST_STEPS:
            raise FaultError(f"At most {MOST_STEPS} steps at once.")
        stood = self._server.hub.context.now()
        filled = self.pass_bar()  # the first one here: what is wrong is said to who asks
        self._run = asyncio.get_running_loop().create_task(self._go_on(count, every_s, filled))
        return f"{count} steps, one each {every_s:g} s, from {stood:%Y-%m-%dT%H:%MZ} on"

    def stop(self) -> None:
        """Take no further step."""
        if self._run is not None:
            self._run.cancel()

    async def _go_on(self, count: int, every_s: float, filled: int) -> None:
        try:
            for left in range(count - 1, -1, -1):
                await asyncio.sleep(SETTLE_S if filled else 0)
                now = self.end_bar()
                if left:
                    await asyncio.sleep(every_s)
                    filled = self.pass_bar()
        except RequestError as error:
            logger.warning("steps ended: %s", error.text)
        else:
            logger.info("market stands at=%s", now.isoformat())
