"""The sending side of one connection: orders first, then what books are compared by, then data; history within limits.

Owns: the queues of messages that wait, and refusing bars that would wait too long.
Leaves: the budget itself (``pacing``). Rule: what waits when the line ends is dropped and never reaches another
session; of one kind, order is kept. ib_async's own queue is one for everything: behind 150 requests an order waits
three seconds there. Same loop only.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from ib_async import IB
from ib_async.wrapper import RequestError

from trading.ib import codes
from trading.ib.pacing import KEPT_FROM_BOOKS, KEPT_FROM_DATA, Budget, HistoryAsk

logger = logging.getLogger(__name__)

HOLD_HISTORY_S = 16.0  # long enough for the same request again; a strategy gives up after twenty
HISTORY, CANCEL_HISTORY = "20", "25"
_URGENT = frozenset(
    {"3", "4", "58", "71", "49"}
)  # orders, cancels, the start, and the question that proves a line alive
# Open and completed orders, executions, account, positions. Behind the data of a hundred strategies that come back at
# once they would wait longer than anybody waits for their answer, and no order flows before it.
_OF_BOOKS = frozenset({"5", "6", "7", "15", "16", "61", "64", "99"})
# message → where its request id stands
_OPENS_LINE = {"1": 2, "50": 2, "97": 1}
_CLOSES_LINE = {"2": 2, "51": 2, "98": 1}
_SEC_TYPE_AT, _HEDGE_AT, _SNAPSHOT_AT = 5, 15, 17  # of a request for market data
PACING_VIOLATION = 162
_LOOK_S = 0.01
_ATTRIBUTE = "mats_sender"


@dataclass(slots=True)
class _Bars:
    message: str
    req_id: int
    ask: HistoryAsk
    give_up_at: float


class PacedSender:
    """Stands in for ``Client.sendMsg``; survives reconnects."""

    def __init__(self, ib: IB, client_id: int, budget: Budget) -> None:
        self._ib = ib
        client: Any = ib.client  # untyped in ib_async
        self._client = client
        self._client_id = client_id
        self._budget = budget
        self._urgent: deque[str] = deque()
        self._of_books: deque[str] = deque()
        self._others: deque[str] = deque()
        self._bars: deque[_Bars] = deque()
        self._asked: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        client.sendMsg = self.send
        setattr(ib.wrapper, _ATTRIBUTE, self)
        self._client.conn.disconnected += self._on_end
        wrapper: Any = ib.wrapper
        self._end_request = wrapper._endReq
        wrapper._endReq = self._on_request_end
        ib.errorEvent += self._on_error

    @classmethod
    def of(cls, ib: IB) -> PacedSender | None:
        """Return the connection's sender, if it has one."""
        return getattr(ib.wrapper, _ATTRIBUTE, None)

    @property
    def orders_wait(self) -> bool:
        """Tell whether orders or cancels wait for their turn. Thread-safe."""
        return bool(self._urgent)

    def turn_s(self, now: float) -> float:
        """Count a message that is written beside this queue and return 0, or return how long it must wait.

        Thread-safe.
        """
        return self._budget.take(self._client_id, now)

    async def order_turn(self, count: int) -> None:
        """Wait until so many orders would be written at once: one that waits here can still be held back."""
        loop = asyncio.get_running_loop()
        while self._client.isConnected():
            behind = len(self._urgent)
            wait_s = self._budget.order_wait_s(self._client_id, loop.time(), behind + count)
            if not (behind or wait_s):
                return
            await asyncio.sleep(max(wait_s, _LOOK_S))

    def send(self, message: str) -> None:
        """Send a message now or as soon as the budget allows."""
        if not message:
            return
        kind = message[: message.find("\0")]
        if kind == HISTORY:
            self._hold_bars(message)
        elif kind in _URGENT:
            self._urgent.append(message)
        elif kind in _OF_BOOKS:
            self._of_books.append(message)
        else:
            self._forget_cancelled(kind, message)
            self._others.append(message)
        self._flush()

    @property
    def waiting(self) -> int:
        """Count the messages that wait."""
        return len(self._urgent) + len(self._of_books) + len(self._others) + len(self._bars)

    def clear(self) -> None:
        """Drop what waits: it belongs to a session that is over."""
        dropped = self.waiting
        if dropped:
            logger.warning("messages dropped with the line client_id=%s count=%s", self._client_id, dropped)
        for queue in (self._urgent, self._of_books, self._others, self._bars):
            queue.clear()
        self._asked.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- sending

    def _flush(self) -> None:
        if not self._client.isConnected():
            self.clear()
            return
        now = asyncio.get_running_loop().time()
        waits = [self._send_all(self._urgent, now, 0), self._send_all(self._of_books, now, KEPT_FROM_BOOKS)]
        waits += [self._admit_bars(now), self._send_all(self._others, now, KEPT_FROM_DATA)]
        wait_s = min((wait for wait in waits if wait), default=0.0)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._flush) if wait_s else None

    def _send_all(self, queue: deque[str], now: float, kept: int) -> float:
        while queue:
            wait_s = self._budget.take(self._client_id, now, kept=kept)
            if wait_s:
                return wait_s
            self._write(queue[0])
            queue.popleft()  # only now: who writes past this loop must see it waiting until it is on its way
        return 0.0

    def _write(self, message: str) -> None:
        self._note_line(message)
        self._client.conn.sendMsg(self._client._prefix(message.encode()))

    # -- history

    def _hold_bars(self, message: str) -> None:
        fields = message.split("\0")
        contract, what = fields[2:14], fields[19]
        ask = HistoryAsk("\0".join(fields[2:20]), "\0".join([*contract, what]), fields[16], what)
        now = asyncio.get_running_loop().time()
        self._bars.append(_Bars(message, int(fields[1]), ask, now + HOLD_HISTORY_S))

    def _admit_bars(self, now: float) -> float:
        """Let the requests go that IB's limits allow; return how long the first of the others waits."""
        soonest, kept = 0.0, deque[_Bars]()
        for bars in self._bars:
            wait_s = self._budget.take_history(self._client_id, bars.req_id, bars.ask, now)
            if not wait_s:
                self._asked.add(bars.req_id)
                self._others.append(bars.message)
            elif now + wait_s > bars.give_up_at:
                self._refuse(bars, wait_s)
            else:
                kept.append(bars)
                soonest = min(soonest or wait_s, wait_s)
        self._bars = kept
        return soonest

    def _refuse(self, bars: _Bars, wait_s: float) -> None:
        text = (
            "MATS did not ask: IB allows 60 requests for small bars in ten minutes, 50 open ones, none twice within "
            f"15 s. Try again in {math.ceil(wait_s)} s."
        )
        logger.warning("history refused client_id=%s retry_after_s=%.0f", self._client_id, wait_s)
        error = RequestError(bars.req_id, PACING_VIOLATION, text)
        asyncio.get_running_loop().call_soon(self._end_request, bars.req_id, error, False)

    def _forget_cancelled(self, kind: str, message: str) -> None:
        if kind == CANCEL_HISTORY:
            req_id = int(message.split("\0")[2])
            self._bars = deque(bars for bars in self._bars if bars.req_id != req_id)
            self._end_bars(req_id)

    def _end_bars(self, req_id: int) -> None:
        if req_id in self._asked:
            self._asked.discard(req_id)
            self._budget.end_history(self._client_id, req_id)
            if self._bars:
                asyncio.get_running_loop().call_soon(self._flush)

    def _on_request_end(self, key: Any, result: Any = None, success: bool = True) -> None:
        self._end_request(key, result, success)
        if key in self._asked:
            self._end_bars(key)

    def _on_error(self, req_id: int, code: int, text: str, contract: Any) -> None:
        if code == codes.DATA_LOST:
            self._budget.close_lines(self._client_id)
        elif codes.fails_request(code):
            self._end_bars(req_id)
            self._budget.close_line(self._client_id, req_id)

    # -- lines

    def _note_line(self, message: str) -> None:
        kind = message[: message.find("\0")]
        if kind in _OPENS_LINE:
            fields = message.split("\0")
            if not (kind == "1" and _is_snapshot(fields)):
                self._budget.open_line(self._client_id, int(fields[_OPENS_LINE[kind]]))
        elif kind in _CLOSES_LINE:
            self._budget.close_line(self._client_id, int(message.split("\0")[_CLOSES_LINE[kind]]))

    def _on_end(self, _: str) -> None:
        if not self._client.isConnected():  # else the end of an older line, told late
            self.clear()


def _is_snapshot(fields: list[str]) -> bool:
    """Tell whether a request for market data ends by itself; those of combinations and hedges count as lines."""
    return fields[_SEC_TYPE_AT] != "BAG" and fields[_HEDGE_AT] == "0" and fields[_SNAPSHOT_AT] == "1"
