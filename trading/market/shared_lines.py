"""Real-time bars on one connection, shared: an instrument has one line, however many listen to it.

Owns: who listens to what, opening and closing lines, asking again after a reconnect, IB's limit of lines.
Leaves: what is made of the bars (``live_bars``), the count of lines of all connections (``trading.ib.pacing``), which
lines fall silent (``trading.ib.silence``).
Rule: a line that somebody listens to is never closed. One that nobody listens to stays open while there is room, since
a strategy that is restarted wants it back, and the one longest unused goes first when room is needed. Without room a
new line is refused with a sentence, never silently left out. IB allows sixty requests for real-time bars in ten
minutes, over all clients and across reconnects: a line that comes too soon is asked for again after a minute, not lost.
IB objects are touched on the connection's loop alone; the rest is thread-safe.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ib_async import IB, Contract, RealTimeBar, RealTimeBarList

from strategies.exceptions import TransientError
from trading.ib import codes
from trading.ib.pacing import Budget
from trading.ib.silence import Stream

logger = logging.getLogger(__name__)

TRADES, MIDPOINT = "TRADES", "MIDPOINT"
TOO_SOON_S = 60.0
_PACING = "pacing violation"
_NO_TRADES = frozenset({"CASH", "CMDTY"})

BarListener = Callable[[RealTimeBar], None]
FailureListener = Callable[[str], None]


def _later(seconds: float, work: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, work)


@dataclass(slots=True, eq=False)
class Listening:
    """One listener's hold on a line, to be given back with ``SharedLines.drop``. Called on the connection's loop."""

    con_id: int
    on_bar: BarListener
    on_failure: FailureListener


@dataclass(slots=True)
class _Line:
    contract: Contract
    listeners: list[Listening] = field(default_factory=list)
    bars: RealTimeBarList | None = None  # None while the connection is away


class SharedLines:
    """All shared lines of one connection: ``client_id`` is its id, ``run`` has work done on its loop, soon."""

    def __init__(
        self,
        run: Callable[[Callable[[], None]], None],
        budget: Budget,
        client_id: int = 0,
        later: Callable[[float, Callable[[], None]], object] = _later,
    ) -> None:
        self._later = later
        self._rests = False  # IB said that requests come too soon
        self._run, self._budget, self._client_id = run, budget, client_id
        self._lock = threading.Lock()
        self._lines: OrderedDict[int, _Line] = OrderedDict()  # the longest unused first
        self._ib: IB | None = None

    # -- from any thread

    def listen(self, contract: Contract, on_bar: BarListener, on_failure: FailureListener) -> Listening:
        """Listen to an instrument's 5-second bars, from the next one on; also while the connection is away.

        Raises: TransientError (line_limit) when no line is left.
        """
        made = Listening(contract.conId, on_bar, on_failure)
        with self._lock:
            line = self._lines.get(contract.conId)
            if line is None:
                self._make_room(contract)
                line = self._lines[contract.conId] = _Line(contract)
            line.listeners.append(made)
            self._lines.move_to_end(contract.conId)
        self._run(partial(self._open, contract.conId))
        return made

    def drop(self, listening: Listening) -> None:
        """Listen no more; a second time changes nothing."""
        with self._lock:
            line = self._lines.get(listening.con_id)
            if line is not None and listening in line.listeners:
                line.listeners.remove(listening)
                self._lines.move_to_end(listening.con_id)

    def users(self, con_id: int) -> int:
        """Return how many listen to an instrument."""
        with self._lock:
            line = self._lines.get(con_id)
            return 0 if line is None else len(line.listeners)

    @property
    def open_lines(self) -> int:
        """Return how many lines there are, used or kept."""
        return len(self._lines)

    def _make_room(self, contract: Contract) -> None:
        """Close the longest unused lines until one more fits."""
        while self._budget.lines_left(self._waiting()) <= 0:
            unused = next((con_id for con_id, line in self._lines.items() if not line.listeners), None)
            if unused is None:
                raise TransientError(
                    f"No market data line is left for {contract.symbol}: all {self._budget.max_lines} of the account "
                    "are in use (MATS_IB_MARKET_LINES). Stop a strategy that follows other symbols, or book more.",
                    code="line_limit",
                )
            line = self._lines.pop(unused)
            if line.bars is not None:
                self._budget.close_line(self._client_id, line.bars.reqId)
                self._run(partial(self._cancel, line.bars))

    def _waiting(self) -> int:
        """Return how many lines are not asked for yet, so that the budget does not know of them."""
        return sum(1 for line in self._lines.values() if line.bars is None)

    # -- on the connection's loop

    def attach(self, ib: IB) -> None:
        """Ask for every line; called after every connect."""
        self.detach()
        with self._lock:
            self._ib, self._rests = ib, False
            wanted = list(self._lines)
        ib.disconnectedEvent += self.detach
        ib.errorEvent += self._on_error
        for con_id in wanted:
            self._open(con_id)

    def detach(self) -> None:
        """Take note that the connection is away: it took every line with it."""
        with self._lock:
            ib, self._ib = self._ib, None
            for con_id in [con_id for con_id, line in self._lines.items() if not line.listeners]:
                del self._lines[con_id]
            for line in self._lines.values():
                line.bars = None
        if ib is not None:
            ib.disconnectedEvent -= self.detach
            ib.errorEvent -= self._on_error

    def _open(self, con_id: int) -> None:
        with self._lock:
            line, ib = self._lines.get(con_id), self._ib
            if line is None or line.bars is not None or self._rests or ib is None or not ib.isConnected():
                return
            what = MIDPOINT if line.contract.secType in _NO_TRADES else TRADES
            bars = line.bars = ib.reqRealTimeBars(line.contract, 5, what, False)
            self._budget.open_line(self._client_id, bars.reqId)
        bars.updateEvent += partial(self._on_bar, con_id)

    def _cancel(self, bars: RealTimeBarList) -> None:
        ib = self._ib
        if ib is not None and ib.isConnected():
            ib.cancelRealTimeBars(bars)

    def _on_bar(self, con_id: int, bars: RealTimeBarList, has_new: bool) -> None:
        if not has_new or not bars:
            return
        bar = bars[-1]
        del bars[:-1]  # ib_async keeps every bar for ever
        with self._lock:
            line = self._lines.get(con_id)
            listeners = list(line.listeners) if line is not None and line.bars is bars else []
        for one in listeners:
            one.on_bar(bar)

    def _on_error(self, req_id: int, code: int, text: str, contract: Any) -> None:
        """Ask again for what IB lost; tell the listeners of a line that IB refuses, and forget it."""
        if code == codes.DATA_LOST:
            self._ask_again()
            return
        if not codes.fails_request(code):
            return
        comes_too_soon = code == codes.BARS_REFUSED and _PACING in text
        with self._lock:
            asked = {line.bars.reqId: con_id for con_id, line in self._lines.items() if line.bars is not None}
            if req_id not in asked:
                return
            self._budget.close_line(self._client_id, req_id)
            line = self._lines[asked[req_id]] if comes_too_soon else self._lines.pop(asked[req_id])
            if comes_too_soon:
                line.bars = None
        if comes_too_soon:
            self._rest(line.contract.symbol)
            return
        logger.error("line refused symbol=%s code=%s text=%s", line.contract.symbol, code, text)
        for one in line.listeners:
            one.on_failure(f"IB sends no bars of {line.contract.symbol}: {code} {text}")

    def _rest(self, symbol: str) -> None:
        """Ask for nothing new for a minute, then for every line that waits."""
        logger.warning(
            "bars of %s come later: IB allows 60 requests for real-time bars in ten minutes; asked again in %d s",
            symbol, TOO_SOON_S,
        )  # fmt: skip
        if not self._rests:
            self._rests = True
            self._later(TOO_SOON_S, self._go_on)

    def _go_on(self) -> None:
        self._rests = False
        with self._lock:
            waiting = [con_id for con_id, line in self._lines.items() if line.bars is None]
        for con_id in waiting:
            self._open(con_id)

    def current(self) -> dict[int, Stream]:
        """Return the lines that somebody listens to and that are asked for, by contract id."""
        with self._lock:
            return {
                con_id: Stream(line.contract, frozenset({line.bars.reqId}))
                for con_id, line in self._lines.items()
                if line.bars is not None and line.listeners
            }

    def request_id(self, con_id: int) -> int:
        """Return the id of a line's request; 0 when there is none."""
        with self._lock:
            line = self._lines.get(con_id)
            return 0 if line is None or line.bars is None else line.bars.reqId

    def renew(self, con_id: int) -> None:
        """End a line at IB and ask for it again, for those who listen to it."""
        self._ask_again({con_id})

    def _ask_again(self, only: Collection[int] | None = None) -> None:
        with self._lock:
            lost = [
                (con_id, line.bars)
                for con_id, line in self._lines.items()
                if line.bars is not None and (only is None or con_id in only)
            ]
            for con_id, bars in lost:
                self._lines[con_id].bars = None
                self._budget.close_line(self._client_id, bars.reqId)
        for con_id, bars in lost:
            self._cancel(bars)
            self._open(con_id)
