"""Cancel orders of any client, also when its strategy hangs, and say of each whether IB was asked.

Owns: the ways to the client that placed an order: the master's loop, the strategy's, past that loop when it does not
answer, or a connection of our own under its client id. Leaves: messages (``brokers.changes``, ``ib.line``).
Rule: IB takes a cancel only from the client that placed the order. A loop that has not begun within 100 ms is passed:
the messages go to its socket whole and once, or the socket is closed and the client id connected anew. From then on the
master's copy speaks for that client.
Source: docs/adr/0012-cancel-past-a-hung-strategy.md
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTimeError
from dataclasses import dataclass, field
from typing import Any, Protocol

from strategies.exceptions import ConfigError, ConflictError, MatsError, OrderRefusedError, TransientError
from trading.brokers.live import LiveBroker
from trading.ib.capture import Capture
from trading.models import Order
from trading.orders.overtaking import ANSWERS_WITHIN_S, Errand

logger = logging.getLogger(__name__)

CALL_TIMEOUT_S = 20.0
CONFIRM_TIMEOUT_S = 20.0
_FREE_ID_S = 5.0  # how long IB may hold a client id whose socket was just closed
MASTER_CLIENT_ID = 0
PAST_ITS_LOOP = "Cancel sent past the strategy's loop, which does not answer."


@dataclass(frozen=True, slots=True)
class CancelReport:
    """What became of a wish to cancel: the references that IB was asked about, and why not the others."""

    asked: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


Outcomes = dict[str, MatsError | None]  # by reference; None: IB was asked


class Session(Protocol):
    """The master's session: client 0 on its own loop."""

    connection: Any

    def begin(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Future[Any]:
        """Start a coroutine on the master's loop and return at once."""


class Host(Protocol):
    """What cancelling needs of the engine."""

    session: Session
    message_queue: Any

    def make_connection(self, client_id: int, **options: Any) -> Any:
        """Return an unconnected IBConnection."""

    def note_orders(self, order_refs: Sequence[str], text: str) -> None:
        """Put what is about to be done with orders on record, as far as that takes no time."""

    def pass_by(self, strategy: Any) -> None:
        """Have the master's copy speak for a strategy whose loop hangs."""


class Cancelling:
    """Asks IB to cancel. Thread-safe; blocks its caller."""

    def __init__(self, host: Host, strategy_of: Callable[[int, str], Any], on_master: Callable[[], LiveBroker]) -> None:
        self._host = host
        self._strategy_of = strategy_of
        self._master_broker = on_master

    def cancel(self, rows: Iterable[Order]) -> Outcomes:
        """Ask IB to cancel each order through the client that placed it; tell of each what came of it."""
        outcomes: Outcomes = {}
        groups: dict[int, list[Order]] = defaultdict(list)
        for row in rows:
            if row.client_id is None or not row.order_id:
                text = f"{row.order_ref} was never handed to IB; there is nothing to cancel."
                outcomes[row.order_ref] = ConflictError(text, code="not_sent")
            else:
                groups[row.client_id].append(row)
        waiting: list[tuple[list[Order], Future[Any]]] = []
        errands: list[tuple[list[Order], Errand]] = []
        for client_id, group in groups.items():
            try:
                self._set_off(client_id, group, waiting, errands)
            except MatsError as error:
                outcomes |= _all(group, error)
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        for group, errand in errands:
            outcomes |= self._by_errand(group, errand, deadline)
        for group, future in waiting:
            outcomes |= _by_future(group, future)
        return outcomes

    def _set_off(
        self,
        client_id: int,
        group: list[Order],
        waiting: list[tuple[list[Order], Future[Any]]],
        errands: list[tuple[list[Order], Errand]],
    ) -> None:
        """Start what a client's orders need, without waiting for any of them."""
        strategy = self._strategy_of(client_id, group[0].owner)
        if client_id == MASTER_CLIENT_ID:
            waiting.append((group, self._host.session.begin(lambda: self._as_master(group))))
        elif strategy is None:
            waiting.append((group, self._host.session.begin(lambda: self._cancel_as(client_id, group))))
        else:
            errand = Errand(strategy, lambda: strategy.broker.send_cancels(_ids(group)))
            errand.deliver()
            errands.append((group, errand))

    async def _as_master(self, group: list[Order]) -> None:
        self._master_broker().send_cancels(_ids(group))

    def _by_errand(self, group: list[Order], errand: Errand, deadline: float) -> Outcomes:
        try:
            if errand.is_taken(deadline - time.monotonic()):
                errand.finish(CALL_TIMEOUT_S)
            else:
                self._past(errand.strategy, group)
        except Exception as error:  # noqa: BLE001 - border: one client's trouble must not keep the others' cancels
            return _all(group, _told(error))
        return _all(group, None)

    def _past(self, strategy: Any, group: list[Order]) -> None:
        """Cancel without the strategy's loop."""
        self._host.note_orders([row.order_ref for row in group], PAST_ITS_LOOP)
        self._host.pass_by(strategy)
        broker: LiveBroker = strategy.broker
        frames = [broker.cancel_frames(ref, order_id) for ref, order_id in _ids(group)]
        logger.warning("cancelling past the loop strategy=%s orders=%s", strategy.symbol, len(frames))
        for place, frame in enumerate(frames):  # each in its turn: what was counted a second ago must not leave now
            broker.line.wait_turn(1)
            if not broker.line.push(frame):
                logger.warning("line of no use strategy=%s; connecting as its client", strategy.symbol)
                broker.line.cut()
                self._anew(strategy, group[place:])
                return

    def _anew(self, strategy: Any, group: list[Order]) -> None:
        """Cancel over a new connection under the strategy's client id."""
        future = self._host.session.begin(lambda: self._cancel_as(int(strategy.client_id), group))
        for error in _by_future(group, future).values():
            if error is not None:
                raise error

    async def _cancel_as(self, client_id: int, group: Sequence[Order]) -> None:
        """Connect as the client that placed the orders, cancel, and stay until IB confirmed."""
        owner = group[0].owner
        connection = self._host.make_connection(client_id, role="strategy", name=f"cancel {owner}")
        Capture(connection.ib, self._host.message_queue.put, owner)
        await self._connect(connection, client_id)
        try:
            broker = LiveBroker(connection.ib, owner, engine=self._host)  # type: ignore[arg-type]  # the whole engine
            for row in group:
                await broker.adopt(row.order_ref)
            broker.send_cancels(_ids(group))
            waits = [ticket.wait_done(CONFIRM_TIMEOUT_S) for ticket in broker.open_tickets()]
            if not all(await asyncio.gather(*waits)):
                raise OrderRefusedError(f"IB did not confirm every cancel of {owner} yet.", code="unconfirmed")
        finally:
            connection.disconnect()

    @staticmethod
    async def _connect(connection: Any, client_id: int) -> None:
        give_up = time.monotonic() + _FREE_ID_S
        while True:
            try:
                await connection.connect_once()
            except (TransientError, ConfigError) as error:
                if error.code == "client_id_in_use" and time.monotonic() < give_up:
                    await asyncio.sleep(0.1)
                    continue
                raise OrderRefusedError(
                    f"The order was placed by client {client_id}, which is not connected, and its id cannot be "
                    f"connected now: {error.message} Cancel it in TWS.",
                    code="owner_gone",
                ) from error
            return


def _ids(group: Iterable[Order]) -> list[tuple[str, int]]:
    return [(row.order_ref, int(row.order_id or 0)) for row in group]


def _all(group: Iterable[Order], error: MatsError | None) -> Outcomes:
    return {row.order_ref: error for row in group}


def _by_future(group: Iterable[Order], future: Future[Any]) -> Outcomes:
    try:
        future.result(CALL_TIMEOUT_S + CONFIRM_TIMEOUT_S)
    except NotInTimeError:
        future.cancel()
        return _all(group, TransientError("The cancel was not handed over in time.", code="timeout"))
    except Exception as error:  # noqa: BLE001 - border: one client's trouble must not keep the others' cancels
        return _all(group, _told(error))
    return _all(group, None)


def _told(error: Exception) -> MatsError:
    """Return an error of ours; one that nobody foresaw goes to the log with its traceback."""
    if isinstance(error, MatsError):
        return error
    logger.error("cancel failed", exc_info=error)
    return TransientError(f"The cancel was not handed over: {type(error).__name__}: {error}", code="cancel_failed")
