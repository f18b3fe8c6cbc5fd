"""What the gateway knows about one connected client.

Owns: its id, the version it speaks, what it subscribed to, what it may hear, and the bytes that wait to be sent.
Leaves: filling the outbox (``wire_*``) and emptying it (``server``).
Rule (IB's): a plain client hears of its own orders only; the master id of everybody's; positions and account values
go to whoever subscribed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from . import protocol_responses as respond
from .model import Bar, Entitlement, Scan

NO_ID = -1


@dataclass(slots=True)
class TickSubscription:
    """One reqMktData; ``sent`` remembers the last value of each tick type, so that only changes travel."""

    con_id: int
    generic_ticks: tuple[str, ...]
    sent: dict[int, Decimal] = field(default_factory=dict)
    computed: dict[int, Decimal | None] = field(default_factory=dict)  # price of each option computation sent
    entitlement: Entitlement = Entitlement.FULL
    wanted: int = 1  # market data type asked for
    data_type: int = 1  # and shown, as message 58 told it
    is_option: bool = False


@dataclass(slots=True)
class TickStream:
    """One reqTickByTickData: everything before ``until`` has been sent."""

    con_id: int
    kind: str  # Last, AllLast, BidAsk, MidPoint
    exchange: str
    until: datetime


@dataclass(slots=True)
class ScanSubscription:
    """One reqScannerSubscription."""

    scan: Scan
    sent_s: float | None = None


@dataclass(slots=True)
class BarSubscription:
    """One reqRealTimeBars; ``last_start`` is the start of the newest bar sent."""

    con_id: int
    what: str
    last_start: datetime | None = None


@dataclass(slots=True)
class HistorySubscription:
    """One historical request kept up to date: the bar that is still growing, and how to spell it."""

    con_id: int
    what: str
    bar_seconds: int
    format_date: int
    zone: str
    current: Bar | None = None
    last_start: datetime | None = None


@dataclass(slots=True)
class SummarySubscription:
    """One reqAccountSummary; ``sent`` remembers the value of each (tag, currency)."""

    tags: tuple[str, ...]
    sent: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(slots=True)
class ValueSubscription:
    """One stream of account values; ``sent`` remembers the value of each (key, currency)."""

    account: str
    sent: dict[tuple[str, str], str] = field(default_factory=dict)
    sent_s: float | None = None


@dataclass(slots=True, eq=False)
class Session:
    """One client from startApi to the end of its socket."""

    version: int
    client_id: int = NO_ID
    closing: bool = False  # the server closes the socket once the outbox is written
    congested: bool = False  # the reader is behind: ticks are left out, facts are not
    auto_bind: bool = False
    data_type: int = 1
    outbox: list[bytes] = field(default_factory=list)
    backlog: Iterator[bytes] | None = None  # an answer too long for one piece; the next request waits for its end
    account_updates: ValueSubscription | None = None
    positions: bool = False
    positions_multi: dict[int, str] = field(default_factory=dict)
    account_multi: dict[int, ValueSubscription] = field(default_factory=dict)
    summaries: dict[int, SummarySubscription] = field(default_factory=dict)
    pnl: dict[int, str] = field(default_factory=dict)
    pnl_single: dict[int, int] = field(default_factory=dict)
    ticks: dict[int, TickSubscription] = field(default_factory=dict)
    bars: dict[int, BarSubscription] = field(default_factory=dict)
    history: dict[int, HistorySubscription] = field(default_factory=dict)
    single_ticks: dict[int, TickStream] = field(default_factory=dict)
    scans: dict[int, ScanSubscription] = field(default_factory=dict)
    silenced: set[int] = field(default_factory=set)  # tick streams that were told of a competing session

    @property
    def started(self) -> bool:
        """Whether startApi has been accepted."""
        return self.client_id != NO_ID

    def send(self, *frames: bytes) -> None:
        """Queue frames; the server writes them together."""
        self.outbox += frames

    def error(self, req_id: int, code: int, text: str) -> None:
        """Queue an error or notice."""
        self.outbox.append(respond.error(req_id, code, text, self.version))

    def forget_market_data(self) -> None:
        """Lose every market data request, as IB does with 1101."""
        for requests in (self.ticks, self.bars, self.history):
            requests.clear()

    def hears(self, owner: int, master_id: int | None) -> bool:
        """Say whether orders and executions of client ``owner`` are this session's business."""
        return self.client_id == owner or (master_id is not None and self.client_id == master_id)
