"""What TWS lets through: sockets, messages, market data lines, history; one budget for all of an engine. Pure.

Owns: the sliding windows, who may send now, how long the others wait, what is in use.
Leaves: the queues of a connection (``paced``), refusing a strategy beforehand (``client_ids``).
Rule: orders and cancels never stand behind anything else, nor the questions by which books are compared behind data: a
share of every second is kept for each, and each connection sends them in that order. IB counts 50 messages a second;
MATS stays below that on every connection, and over all of them.
Units: seconds of a monotonic clock, given by the caller. Thread-safe.
Source: IB's pages on pacing and historical limitations.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from strategies.exceptions import TransientError

# IB counts in any second as messages arrive. Bursts that left a second apart may come closer, and TWS drops what is too
# much without saying which message it was, a cancel for example.
WINDOW_S = 1.25
PER_CONNECTION = 45  # of IB's 50 a second
KEPT_FROM_DATA, KEPT_FROM_BOOKS = 10, 4  # for what is more pressing
MAX_HISTORY_OPEN = 50
# IB's 600, 15 and 2 seconds count from arrival to arrival: what left that far apart may arrive closer together.
SLACK_S = 0.5
HISTORY_SPAN_S, MAX_IN_SPAN = 600.0 + SLACK_S, 60
SAME_AGAIN_S = 15.0 + SLACK_S
BURST_SPAN_S, MAX_IN_BURST = 2.0 + SLACK_S, 5  # IB refuses the sixth of one contract, exchange and type
SMALL_BARS = frozenset({"1 secs", "1 sec", "5 secs", "10 secs", "15 secs", "30 secs"})
TWICE = "BID_ASK"


class Window:
    """Counts what happened within the last ``span_s``."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._times: deque[float] = deque()

    def count(self, now: float) -> int:
        """Return how many there were up to now."""
        while self._times and now - self._times[0] >= self._span_s:
            self._times.popleft()
        return len(self._times)

    def add(self, now: float, weight: int = 1) -> None:
        """Count one, or several at once."""
        self._times.extend([now] * weight)

    def wait_s(self, now: float, most: int) -> float:
        """Return how long until one more stays within ``most``; 0 when it does now."""
        over = self.count(now) - most
        return 0.0 if over < 0 else max(0.001, self._times[over] + self._span_s - now)

    def take(self, now: float, most: int, weight: int = 1) -> float:
        """Count one, or several at once, and return 0, or return how long they must wait to stay within ``most``."""
        wait_s = self.wait_s(now, most - weight + 1)
        if not wait_s:
            self.add(now, weight)
        return wait_s


class Span(Protocol):
    """Requests for small bars of the last ten minutes; one that several processes share is in ``history_span``."""

    def wait_s(self, now: float, most: int) -> float:
        """Return how long until one more stays within ``most``; 0 when it does now."""

    def count(self, now: float) -> int:
        """Return how many there were up to now."""

    def take(self, now: float, most: int, weight: int = 1) -> float:
        """Count one, or several at once, and return 0, or return how long they must wait to stay within ``most``.

        In one step: another process may count between a look and a count.
        """


@dataclass(frozen=True, slots=True)
class HistoryAsk:
    """One request for bars, as far as IB's limits look at it."""

    what: str  # contract, end, bar size, duration, type: all that makes it identical to another
    instrument: str  # contract, exchange and type
    bar_size: str
    kind: str

    @property
    def is_small(self) -> bool:
        """Tell whether IB's limits for small bars apply."""
        return self.bar_size in SMALL_BARS

    @property
    def weight(self) -> int:
        """Return how often IB counts it."""
        return 2 if self.kind == TWICE else 1


@dataclass(slots=True)
class HistoryPace:
    """IB's limits on historical bars: 50 open; of small ones 60 in ten minutes, none twice within 15 seconds, and
    fewer than six of one contract, exchange and type within two.
    """

    max_in_span: int = MAX_IN_SPAN
    open: set[tuple[int, int]] = field(default_factory=set)
    _span: Span = field(default_factory=lambda: Window(HISTORY_SPAN_S))
    _asked: dict[str, float] = field(default_factory=dict)
    _bursts: dict[str, Window] = field(default_factory=dict)

    def wait_s(self, ask: HistoryAsk, now: float) -> float:
        """Return how long the request must wait; 0 when it may go. An open slot has no time: 1 means «look again»."""
        waits = [1.0 if len(self.open) >= MAX_HISTORY_OPEN else 0.0]
        if ask.is_small:
            waits.append(self._span.wait_s(now, self.max_in_span - ask.weight + 1))
            waits.append(self._asked.get(ask.what, float("-inf")) + SAME_AGAIN_S - now)
            burst = self._bursts.get(ask.instrument)
            waits.append(burst.wait_s(now, MAX_IN_BURST) if burst is not None else 0.0)
        return max(0.0, *waits)

    def take(self, ask: HistoryAsk, key: tuple[int, int], now: float) -> float:
        """Count a request and return 0, or return how long it must wait; ``key`` is its client and request id."""
        wait_s = self.wait_s(ask, now)
        if not wait_s and ask.is_small:
            wait_s = self._span.take(now, self.max_in_span, ask.weight)
        if wait_s:
            return wait_s
        self.open.add(key)
        if ask.is_small:
            self._asked = {what: at for what, at in self._asked.items() if now - at < SAME_AGAIN_S} | {ask.what: now}
            self._bursts = {name: one for name, one in self._bursts.items() if one.count(now)}
            self._bursts.setdefault(ask.instrument, Window(BURST_SPAN_S)).add(now)
        return 0.0

    def small_wait_s(self, now: float) -> float:
        """Return how long until any request for small bars may go."""
        return self._span.wait_s(now, self.max_in_span)

    def tokens(self, now: float) -> int:
        """Return how many requests for small bars are left in these ten minutes."""
        return max(0, self.max_in_span - self._span.count(now))


class Budget:
    """What all connections of one engine use together."""

    def __init__(
        self,
        *,
        sockets: int = 32,
        messages_per_s: int = PER_CONNECTION,
        lines: int = 100,
        history_span: Span | None = None,
        small_bars: int = MAX_IN_SPAN,
    ) -> None:
        self.max_sockets, self.max_messages, self.max_lines = sockets, messages_per_s, lines
        self._lock = threading.Lock()
        self._all = Window(WINDOW_S)
        self._each: dict[int, Window] = {}
        self._sockets: set[int] = set()
        self._lines: dict[int, set[int]] = {}
        self._history = HistoryPace(small_bars, _span=history_span or Window(HISTORY_SPAN_S))
        self._held = 0

    # sockets

    def open_socket(self, client_id: int) -> None:
        """Count a socket before it is opened.

        Raises: TransientError (client_limit): the gateway would refuse one more.
        """
        with self._lock:
            if client_id not in self._sockets and len(self._sockets) >= self.max_sockets:
                raise TransientError(
                    f"All {self.max_sockets} connections that the gateway accepts are in use; client {client_id} is "
                    "not connected. Stop a strategy, or let some share a connection.",
                    code="client_limit",
                )
            self._sockets.add(client_id)

    def close_socket(self, client_id: int) -> None:
        """Give a socket back, with its lines and open requests; harmless when it has none."""
        with self._lock:
            self._sockets.discard(client_id)
            self._each.pop(client_id, None)
            self._lines.pop(client_id, None)
            self._history.open = {key for key in self._history.open if key[0] != client_id}

    # messages

    def take(self, client_id: int, now: float, *, kept: int = 0) -> float:
        """Count a message that is sent now and return 0, or return how long it must wait.

        ``kept`` of every second's messages it leaves to what is more pressing.
        """
        with self._lock:
            own = self._each.setdefault(client_id, Window(WINDOW_S))
            wait_s = max(
                own.wait_s(now, PER_CONNECTION - kept), self._all.wait_s(now, max(1, self.max_messages - kept))
            )
            if wait_s == 0:
                own.add(now)
                self._all.add(now)
            else:
                self._held += 1
            return wait_s

    def order_wait_s(self, client_id: int, now: float, count: int) -> float:
        """Return how long so many orders would have to wait; counts nothing."""
        with self._lock:
            own = self._each.setdefault(client_id, Window(WINDOW_S))
            each, together = min(count, PER_CONNECTION), min(count, self.max_messages)
            return max(
                own.wait_s(now, PER_CONNECTION - each + 1), self._all.wait_s(now, self.max_messages - together + 1)
            )

    # lines

    def open_line(self, client_id: int, req_id: int) -> None:
        """Count a market data line."""
        with self._lock:
            self._lines.setdefault(client_id, set()).add(req_id)

    def close_line(self, client_id: int, req_id: int) -> None:
        """Give a line back; harmless when it is none."""
        with self._lock:
            self._lines.get(client_id, set()).discard(req_id)

    def lines_left(self, coming: int = 0) -> int:
        """Return how many lines more IB allows, beside those that are about to be asked for."""
        with self._lock:
            return self.max_lines - sum(len(lines) for lines in self._lines.values()) - coming

    def close_lines(self, client_id: int) -> None:
        """Give all lines of a connection back: IB has dropped them."""
        with self._lock:
            self._lines.pop(client_id, None)

    # history

    def take_history(self, client_id: int, req_id: int, ask: HistoryAsk, now: float) -> float:
        """Count a request for bars that is sent now and return 0, or return how long it must wait."""
        with self._lock:
            return self._history.take(ask, (client_id, req_id), now)

    def small_bars_wait_s(self, now: float) -> float:
        """Return how long until a request for small bars may go at all; counts nothing."""
        with self._lock:
            return self._history.small_wait_s(now)

    def end_history(self, client_id: int, req_id: int) -> None:
        """Take note that a request for bars was answered, refused or cancelled."""
        with self._lock:
            self._history.open.discard((client_id, req_id))

    def figures(self, now: float) -> dict[str, dict[str, int]]:
        """Return used and most of sockets, lines, messages in the last second, open and small history requests."""
        with self._lock:
            return {
                "sockets": {"used": len(self._sockets), "most": self.max_sockets},
                "lines": {"used": sum(len(lines) for lines in self._lines.values()), "most": self.max_lines},
                "messages": {"used": self._all.count(now), "most": self.max_messages},
                "history_open": {"used": len(self._history.open), "most": MAX_HISTORY_OPEN},
                "history": {
                    "used": self._history.max_in_span - self._history.tokens(now),
                    "most": self._history.max_in_span,
                },
                "held": {"used": self._held, "most": 0},
            }

    def of_client(self, client_id: int, now: float) -> dict[str, int]:
        """Return what one connection uses: lines, messages in the last second, open history requests."""
        with self._lock:
            each = self._each.get(client_id)
            return {
                "lines": len(self._lines.get(client_id, ())),
                "messages": each.count(now) if each is not None else 0,
                "history_open": sum(1 for key in self._history.open if key[0] == client_id),
            }
