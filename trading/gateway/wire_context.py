"""What every request handler works with: the venue, the clock, who is connected and the house rules.

Owns: the set of sessions and the lookups that several handlers share.
Leaves: one request each to the ``wire_*`` modules, sockets to ``server``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .model import Bar, Contract, ContractDetails, RequestError
from .protocol_open_order import OpenOrderWriter
from .session import Session
from .venue import Venue
from .wire_history_pacing import HistoryPacer

# Periods are of real time, also where the venue lives in the faster time of its bars.
ACCOUNT_PERIOD_S = 180.0  # TWS repeats account values at this interval
REFRESH_PERIOD_S = 1.0
TICK_PERIOD_S = 0.25  # level 1 is aggregated to some four updates a second
MAX_TICKER_LINES = 100
BAR_SECONDS = 5
MAX_CATCH_UP_S = 600


@dataclass(slots=True)
class Context:
    """Shared state of the wire side; lives on one event loop."""

    venue: Venue
    clock: Callable[[], datetime]
    master_client_id: int | None = 0
    max_clients: int = 32
    strict_executions: bool = False
    sessions: dict[int, Session] = field(default_factory=dict)
    squatted: frozenset[int] = frozenset()  # ids that another program holds
    account_dirty: bool = False
    uptime_s: float = 0.0  # real seconds, as of the last tick
    single_ticked_s: float | None = None  # when single ticks last went out
    history_pacer: HistoryPacer = field(default_factory=HistoryPacer)
    open_order: OpenOrderWriter = field(default_factory=OpenOrderWriter)

    def now(self) -> datetime:
        """The venue's present, aware UTC."""
        return self.clock()

    def due(self, last_s: float | None, period_s: float) -> bool:
        """Say whether a period has passed since something was last done."""
        return last_s is None or self.uptime_s - last_s >= period_s

    def listeners(self, owner: int) -> list[Session]:
        """Sessions that hear of orders and executions of client ``owner``."""
        master = self.master_client_id
        return [session for session in self.sessions.values() if session.hears(owner, master)]

    def resolve_one(self, contract: Contract, *, include_expired: bool = False) -> ContractDetails:
        """Return the one listed instrument that a request means.

        Raises: RequestError 200 when there is none or more than one.
        """
        found = self.venue.resolve(contract, include_expired=include_expired)
        if not found:
            raise RequestError(200, "No security definition has been found for the request")
        if len(found) > 1:
            raise RequestError(
                200, f"The contract description specified for {contract.symbol or contract.con_id} is ambiguous."
            )
        return found[0]

    def closed_bars(self, con_id: int, what: str, last_start: datetime | None, now: datetime) -> Sequence[Bar]:
        """Return the 5-second bars that have closed since the one that began at ``last_start``, oldest first.

        In the fast time of a replay several close between two looks; after a pause of hours only the newest counts.
        """
        newest = self.venue.latest_bar(con_id, seconds=BAR_SECONDS, what=what, now=now)
        if newest is None or (last_start is not None and newest.start <= last_start):
            return ()
        gap_s = 0 if last_start is None else int((newest.start - last_start).total_seconds())
        if not BAR_SECONDS < gap_s <= MAX_CATCH_UP_S:
            return (newest,)
        missed = self.venue.bars(
            con_id, end=newest.start, duration=f"{gap_s} S", bar_size="5 secs", what=what, use_rth=False, now=now
        )
        return (*(bar for bar in missed if last_start is not None and last_start < bar.start < newest.start), newest)

    def account(self, wanted: str, request_code: str) -> str:
        """Return the account that a request means; empty means the first.

        Raises: RequestError 321 when the gateway does not manage it.
        """
        accounts = self.venue.accounts
        if not wanted:
            return accounts[0]
        if wanted not in accounts:
            raise RequestError(
                321, f"Error validating request.-'{request_code}' : cause - Invalid account code '{wanted}'"
            )
        return wanted


def refuse_duplicate(active: bool, code: int = 322) -> None:
    """Refuse a request id that is in use.

    Raises: RequestError 102 for tickers, 322 for the rest.
    """
    if active and code == 102:
        raise RequestError(102, "Duplicate ticker ID.")
    if active:
        raise RequestError(322, "Error processing request.-'bW' : cause - Duplicate ticker id")
