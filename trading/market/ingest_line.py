"""An ingest's own connection to IB: one of its client ids, paced, reconnected, every question ended.

Owns: connecting by the engine's rules for accounts, waiting for IB's limits, asking again what failed in passing.
Leaves: what is asked (``ingest_ib``), the limits (``trading.ib.pacing``), which are counted together with the engine's.
Rule: an ingest leaves some of IB's requests for small bars to the strategies; «no data» is an answer, silence is not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from ib_async import Contract

from strategies.exceptions import TransientError
from trading.engine.options import EngineSettings, account_rule
from trading.ib.connection import IBConnection
from trading.ib.history_span import SharedSpan
from trading.ib.pacing import HISTORY_SPAN_S, MAX_IN_SPAN, SMALL_BARS, Budget
from trading.ib.requests import ask, qualify
from trading.market.ingest_progress import Meter

logger = logging.getLogger(__name__)

ANSWER_S = 90.0
TRIES = 5
KEPT_FOR_STRATEGIES = 10  # of IB's sixty requests for small bars in ten minutes
PAUSES_S = (1.0, 5.0, 15.0, 30.0)
REFUSED_PACE_S = 60.0
HISTORY_ERROR = 162
_NO_DATA = ("no data", "query returned no data")
_PACING = ("pacing violation", "MATS did not ask")
EMPTY: tuple[()] = ()
"""IB's answer that it has no bars there."""


class LineSettings(EngineSettings, Protocol):
    """What the line needs of the settings."""

    @property
    def ingest_client_ids(self) -> tuple[int, ...]: ...


class StoppedError(TransientError):
    """The ingest was asked to stop while it waited."""

    code = "stopped"


class IngestLine:
    """One connection for one ingest. Same loop only; ``close`` ends it."""

    def __init__(self, settings: LineSettings, meter: Meter, should_stop: Callable[[], bool]) -> None:
        self._settings, self._meter, self._should_stop = settings, meter, should_stop
        span = SharedSpan(settings.mats_home / "run" / "history.span", HISTORY_SPAN_S)
        self._budget = Budget(
            messages_per_s=settings.messages_per_s, history_span=span, small_bars=MAX_IN_SPAN - KEPT_FOR_STRATEGIES
        )
        self._connection: IBConnection | None = None

    async def open(self) -> None:
        """Connect as the first of the ingest's client ids that is free.

        Raises: TransientError when there is no gateway or no free id; ConfigError for a wrong account.
        """
        rule = account_rule(self._settings)
        last: TransientError | None = None
        for client_id in self._settings.ingest_client_ids:
            made = IBConnection(
                client_id,
                host=self._settings.ib_host,
                port=self._settings.ib_port,
                role="ingest",
                name="Ingest",
                connect_timeout_s=self._settings.ib_connect_timeout_s,
                expected_account=rule.account,
                paper_only=rule.paper_only,
                budget=self._budget,
            )
            try:
                await made.connect_once()
            except TransientError as error:
                if error.code != "client_id_in_use":
                    raise
                last = error
                continue
            self._connection = made
            return
        ids = self._settings.ingest_client_ids
        raise TransientError(
            f"All client ids of ingests ({ids[0]} to {ids[-1]}) are in use at the gateway; wait for another "
            "download, or widen MATS_INGEST_CLIENT_IDS.",
            code="client_id_in_use",
        ) from last

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.disconnect()

    async def qualify(self, contract: Contract) -> Contract:
        """Return the one listed contract that is meant.

        Raises: NotFoundError when IB knows none or several; TransientError.
        """
        found: Contract = await self._tried(lambda ib: qualify(ib, contract), f"{contract.symbol}")
        return found

    async def head_timestamp(self, contract: Contract, what: str, use_rth: bool) -> datetime | None:
        """Return since when IB has bars, None when it does not say."""
        try:
            found = await self._tried(
                lambda ib: ask(ib.reqHeadTimeStampAsync(contract, what, use_rth, 2), "first bar", timeout_s=ANSWER_S),
                f"first bar of {contract.symbol}",
            )
        except TransientError as error:
            logger.warning("first bar unknown symbol=%s reason=%s", contract.symbol, error.message)
            return None
        if not isinstance(found, datetime):
            return None
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)

    async def bars(self, contract: Contract, end: str, duration: str, bar_size: str, what: str, use_rth: bool) -> Any:
        """Return IB's bars, or EMPTY when it has none there.

        Raises: TransientError after some tries.
        """
        await self._wait_for_pace(bar_size)
        try:
            return await self._tried(
                lambda ib: ask(
                    # Its own time limit answers with an empty list, as if there were no bars.
                    ib.reqHistoricalDataAsync(contract, end, duration, bar_size, what, use_rth, 2, timeout=0),
                    f"{bar_size} bars of {contract.symbol} to {end}",
                    timeout_s=ANSWER_S,
                ),
                f"bars of {contract.symbol}",
            )
        except TransientError as error:
            if _says(error, _NO_DATA):
                return EMPTY
            raise

    async def _wait_for_pace(self, bar_size: str) -> None:
        while bar_size in SMALL_BARS:
            wait_s = self._budget.small_bars_wait_s(time.monotonic())
            if not wait_s:
                return
            self._meter.wait(wait_s, "IB allows 60 requests for small bars in ten minutes")
            await self._sleep(wait_s)

    async def _tried(self, request: Callable[[Any], Any], what: str) -> Any:
        """Ask, and ask again what failed in passing."""
        for number in range(TRIES):
            try:
                return await request(await self._ready())
            except TransientError as error:
                if isinstance(error, StoppedError) or _says(error, _NO_DATA) or number == TRIES - 1:
                    raise
                pace = _says(error, _PACING)
                if error.fields.get("ib_code") not in (None, HISTORY_ERROR) and not pace:
                    raise
                wait_s = REFUSED_PACE_S if pace else PAUSES_S[min(number, len(PAUSES_S) - 1)]
                logger.warning("asked again what=%s in_s=%s reason=%s", what, wait_s, error.message)
                self._meter.wait(wait_s, error.message.rstrip("."))
                await self._sleep(wait_s)
        raise AssertionError("unreachable")

    async def _ready(self) -> Any:
        connection = self._connection
        if connection is None:
            await self.open()
            connection = self._connection
        assert connection is not None  # noqa: S101 - open() made it or raised
        if not connection.connected:
            await connection.connect_once()
        return connection.ib

    async def _sleep(self, seconds: float) -> None:
        """Wait, but not past a wish to stop."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._should_stop():
                raise StoppedError("The ingest was stopped; what it stored stays.")
            await asyncio.sleep(min(left, 0.2))


def _says(error: TransientError, words: tuple[str, ...]) -> bool:
    return error.fields.get("ib_code") == HISTORY_ERROR and any(word in error.message for word in words)
