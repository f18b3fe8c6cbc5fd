"""Prices that stopped although IB said that it kept them: the engine's side of the watch over silent streams.

Owns: a market's hours at this moment, the alert, the marks that no longer stand.
Leaves: noticing (``trading.ib.silence``), the streams (``market.recorder``, ``ib.resubscribe``).
Rule: what a strategy's own line lacks is told; what the recorder lacks makes marks stale as well, until a price comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from ib_async import IB, Contract

from portfolio.services import note_silence
from trading.engine.check_alerts import report_silence
from trading.engine.message_queue import MessageQueue
from trading.ib.silence import Silence, SilenceWatch, Streams
from trading.market.liquid_hours import LiquidHours
from trading.market.recorder import MarketRecorder

HOURS_WAIT_S = 3.0
HOURS_AGAIN_S = 60.0
RECORDER = "MATS"


class DataWatch:
    """The watches of one engine. Thread-safe: each watch lives on its connection's loop."""

    def __init__(
        self, hours: LiquidHours, queue: MessageQueue, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._hours = hours
        self._queue = queue
        self._now = now
        self._asked: dict[int, float] = {}
        self._recorded: SilenceWatch | None = None

    def follow(self, ib: IB, name: str, streams: Streams) -> SilenceWatch:
        """Watch the streams of a connection of strategies; ``name`` says whose."""
        return SilenceWatch(ib, streams, is_open=self._is_open, tell=lambda silence: self._tell(name, silence))

    def follow_recorder(self, ib: IB, recorder: MarketRecorder) -> None:
        """Watch the recorder's lines, in place of those of an earlier connection."""
        if self._recorded is not None:
            self._recorded.close()
        self._queue.submit(lambda: report_silence(RECORDER, [], self._now()), "silence")
        silent: set[int] = set()

        def _tell(silence: Silence) -> None:
            recorder.tell_again(silent - silence.contracts.keys())
            silent.clear()
            silent.update(silence.contracts)
            self._tell(RECORDER, silence, marks=True)

        self._recorded = SilenceWatch(ib, recorder, is_open=self._is_open, tell=_tell)

    def _tell(self, name: str, silence: Silence, *, marks: bool = False) -> None:
        def _store() -> None:
            if marks and silence:
                note_silence(list(silence.contracts), silence.since)
            report_silence(name, sorted(silence.contracts.values()), silence.since)

        self._queue.submit(_store, "silence")

    async def _is_open(self, ib: IB, contract: Contract) -> bool | None:
        """Tell whether a contract's market is in its liquid hours; None where IB does not say its hours."""
        if not contract.conId:
            return None
        now = self._now()
        sessions = self._hours.get(contract.conId, now)
        if sessions is None and time.monotonic() - self._asked.get(contract.conId, float("-inf")) > HOURS_AGAIN_S:
            self._asked[contract.conId] = time.monotonic()
            await self._hours.learn(ib, contract, now, HOURS_WAIT_S)
            sessions = self._hours.get(contract.conId, now)
        return None if sessions is None else any(begins <= now < ends for begins, ends in sessions)
