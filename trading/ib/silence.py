"""Streams that IB says it kept after 1102 and that bring nothing any more: asked for again, then told.

Owns: which streams were heard since, for how long each was silent while its market was open, what is told.
Leaves: what is subscribed and how it is asked for again (``Streams``), hours (``is_open``), what a silence means
(``engine.data_watch``).
Rule: only a market that is open makes silence suspicious; where its hours are not known a stream is asked for again,
and nothing is told. A stream counts as heard by its own request's messages, not by a price asked for beside it. It
costs nothing but between a 1102 and the first message of each stream. Same loop only. Units: seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from ib_async import IB, Contract

from trading.ib import codes

logger = logging.getLogger(__name__)

QUIET_S = 20.0  # of an open market without a message; real-time bars come every five
LOOK_S = 1.0
RETRY_S = 60.0
_ATTRIBUTE = "mats_silence"
# what brings data of a stream; each has the request's id first
_SPEAKERS = (
    "priceSizeTick",
    "tickSize",
    "tickString",
    "tickGeneric",
    "tickOptionComputation",
    "tickByTickAllLast",
    "tickByTickBidAsk",
    "tickByTickMidPoint",
    "realtimeBar",
    "historicalDataUpdate",
)


@dataclass(frozen=True, slots=True)
class Stream:
    """One subscription: what it is of, and the ids that its messages carry now."""

    contract: Contract
    req_ids: frozenset[int]


class Streams(Protocol):
    """The subscriptions of a connection."""

    def current(self) -> Mapping[Any, Stream]:
        """Return what is subscribed now, by a key that stays when it is asked for again."""

    def renew(self, key: Any) -> None:
        """End a subscription at IB and ask for it again, as it was."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Contracts whose prices stopped, by id with their tickers, and since when; empty when there are none."""

    contracts: Mapping[int, str]
    since: datetime

    def __bool__(self) -> bool:
        return bool(self.contracts)


@dataclass(slots=True)
class _Suspect:
    waited_s: float = 0.0  # while its market was open
    renewals: int = 0
    is_open: bool | None = None


@dataclass(slots=True)
class _Case:
    """What came of one 1102."""

    since: datetime
    suspects: dict[Any, _Suspect]
    alive: set[int] = field(default_factory=set)  # contracts of which something was heard
    told: Mapping[int, str] = field(default_factory=dict)


class SilenceWatch:
    """Watches the streams of one connection after each 1102; ``close`` ends it for good."""

    def __init__(
        self,
        ib: IB,
        streams: Streams,
        *,
        is_open: Callable[[IB, Contract], Awaitable[bool | None]],
        tell: Callable[[Silence], None],
    ) -> None:
        self._ib = ib
        self._streams = streams
        self._is_open, self._tell = is_open, tell
        self._heard: set[int] = set()
        self._originals: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._case: _Case | None = None
        ib.errorEvent += self._on_error
        ib.disconnectedEvent += self._on_disconnected
        setattr(ib.wrapper, _ATTRIBUTE, self)  # events hold their listeners weakly; it lives as long as the connection

    def close(self) -> None:
        """Stop watching; what was told stands."""
        self._ib.errorEvent -= self._on_error
        self._ib.disconnectedEvent -= self._on_disconnected
        self._end()

    def _on_error(self, req_id: int, code: int, text: str, contract: Any) -> None:
        if code == codes.DATA_KEPT:
            self._begin()
        elif code == codes.DATA_LOST:  # everything is asked for again, and what comes of it is news
            self._end()
            self._say({})

    def _on_disconnected(self) -> None:
        self._end()
        self._say({})

    def _begin(self) -> None:
        suspects = {key: _Suspect() for key in self._streams.current()}
        told = self._case.told if self._case is not None else {}
        self._end()
        self._case = _Case(datetime.now(UTC), suspects, told=told)
        if not suspects:
            return
        self._listen()
        self._task = asyncio.get_running_loop().create_task(self._watch(self._case), name="silence")

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._stop_listening()

    # hearing

    def _listen(self) -> None:
        wrapper: Any = self._ib.wrapper  # the decoder looks methods up by name each time
        self._heard.clear()
        for name in _SPEAKERS:
            self._originals[name] = wrapper.__dict__.get(name)
            setattr(wrapper, name, self._noting(getattr(wrapper, name)))

    def _noting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        heard = self._heard

        def _note(req_id: int, *args: Any, **named: Any) -> Any:
            heard.add(req_id)
            return original(req_id, *args, **named)

        return _note

    def _stop_listening(self) -> None:
        for name, original in self._originals.items():
            if original is None:
                delattr(self._ib.wrapper, name)
            else:
                setattr(self._ib.wrapper, name, original)
        self._originals.clear()

    # watching

    async def _watch(self, case: _Case) -> None:
        try:
            while case.suspects:
                await asyncio.sleep(LOOK_S)
                await self._look(case)
        except Exception:  # task border: a watch that fails must not fail unseen
            logger.exception("watch over silent streams failed")
        finally:
            if self._case is case:
                self._stop_listening()
                self._task = None

    async def _look(self, case: _Case) -> None:
        current = self._streams.current()
        for key, suspect in list(case.suspects.items()):
            stream = current.get(key)
            if stream is None or stream.req_ids & self._heard:
                del case.suspects[key]
                if stream is not None:
                    case.alive.add(stream.contract.conId)
                continue
            suspect.is_open = await self._is_open(self._ib, stream.contract)
            self._age(key, suspect, stream)
        self._say(self._silent(case, current))

    def _age(self, key: Any, suspect: _Suspect, stream: Stream) -> None:
        """Count the time of a silent stream, and ask for it again when it is up."""
        if suspect.is_open is False:
            suspect.waited_s = 0.0
            return
        suspect.waited_s += LOOK_S
        limit_s = QUIET_S if suspect.renewals == 0 else RETRY_S
        if suspect.waited_s >= limit_s:
            logger.warning(
                "nothing came since IB kept the data, asking again symbol=%s time=%s",
                stream.contract.symbol,
                suspect.renewals + 1,
            )
            suspect.renewals, suspect.waited_s = suspect.renewals + 1, 0.0
            self._streams.renew(key)

    def _silent(self, case: _Case, current: Mapping[Any, Stream]) -> dict[int, str]:
        """Return the contracts of which no stream was heard, long after they were asked for again."""
        found: dict[int, str] = {}
        for key, suspect in case.suspects.items():
            contract = current[key].contract if key in current else None
            if contract is None or contract.conId in case.alive or not suspect.is_open:
                continue
            if suspect.renewals > 1 or (suspect.renewals == 1 and suspect.waited_s >= QUIET_S):
                found[contract.conId] = contract.symbol
        return found

    def _say(self, silent: Mapping[int, str]) -> None:
        case = self._case
        if case is not None and dict(case.told) != dict(silent):
            case.told = silent
            self._tell(Silence(silent, case.since))
