"""The stepped market of the paper venue: one bar passes when it is asked for.

Owns: the looks that a passing bar is made of. Leaves: where the clock stands (``market_steps``), telling clients of it
(``stepping``), matching (``exchange_matching``).
Rule: what was placed while the market stood meets the next bar as a whole, like in a backtest: first its opening price,
then everything that it reaches, then the auction and the end of the session. Fills on the way carry the bar's last
second, so that a fill's minute names its bar.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from trading.gateway.exchange_orders import OrderDesk
from trading.gateway.exchange_state import VenueState
from trading.gateway.hours import from_micros
from trading.gateway.market import Market
from trading.gateway.market_steps import Look, StepClock
from trading.gateway.model import RequestError, VenueEvent

if TYPE_CHECKING:
    from trading.gateway.exchange import VenueOptions

NOT_STEPPED = "This market runs by itself. Start the gateway with --clock step."


class VenueSteps:
    """The part of the venue that lets bars pass. Not thread-safe."""

    _options: VenueOptions
    _market: Market
    _state: VenueState
    _desk: OrderDesk

    def advance(self, now: datetime) -> list[VenueEvent]:
        """Let the market work; return what it caused."""
        raise NotImplementedError

    def pass_bar(self) -> tuple[datetime, list[VenueEvent]]:
        """Let the next bar pass; return when it began and what it caused. The clock stands just before its end.

        Raises: RequestError 321 where the market runs by itself, or has no bar left.
        """
        steps = self._steps()
        begin_us, end_us = steps.take()
        begin, almost, end = (from_micros(moment) for moment in (begin_us, end_us - 1, end_us))
        try:
            self._desk.look_from(begin)
            steps.now_us, steps.look = begin_us, Look.OPENING
            events = self.advance(begin)
            steps.now_us, steps.look = end_us - 1, Look.BAR
            events += self.advance(almost)
        finally:
            steps.look = Look.NONE
        steps.now_us = end_us
        events += self.advance(end)  # auctions, what ends with the session
        steps.now_us = end_us - 1
        return begin, events

    def end_bar(self) -> datetime:
        """Let the bar that passed be over, so that clients are told of it; return the moment.

        Raises: RequestError 321 where the market runs by itself.
        """
        steps = self._steps()
        if steps.passed:
            steps.now_us = steps.end_us
            self._state.set_anchor(self._market.note_steps())
        return from_micros(steps.now_us)

    def _steps(self) -> StepClock:
        if self._market.steps is None:
            raise RequestError(321, NOT_STEPPED)
        return self._market.steps
