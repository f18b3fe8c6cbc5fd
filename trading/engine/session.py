"""The master session: IB client 0, the account's figures, and the way from «connected» to «orders may flow».

Owns: the thread and loop of client 0; after every connect: account, opening balances, replay of the day's executions,
unconfirmed orders, comparison of positions, then the gate; while connected: the same checks on a timer.
Leaves: connecting (``trading.ib``), booking (``portfolio``), the questions to IB (``broker_state``).
Rule: an answer that is late, partial or refused changes nothing; the gate opens only after a complete cycle.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Protocol

from django.db import DatabaseError
from django.db import connection as database

from strategies.exceptions import ConfigError, LedgerError, MatsError, TransientError
from trading.engine import gate as gates
from trading.engine.broker_state import BrokerState
from trading.engine.cash_check import CheckTimes
from trading.engine.check_alerts import report_unreadable
from trading.engine.gate import Gate
from trading.engine.ladder import Action, Word
from trading.engine.link_watch import LinkWatch
from trading.engine.message_queue import MessageQueue
from trading.engine.reconciler import Reconciler
from trading.ib.capture import Capture
from trading.ib.connection import IBConnection
from trading.ib.drop_copy import DropCopy

logger = logging.getLogger(__name__)

RETRY_S = 2.0
BAD_ACCOUNT_RETRY_S = 15.0
FIGURES_EVERY_S = 1.0
UNREADABLE_KEPT = 1000


class SessionHost(Protocol):
    """What the session needs of the engine."""

    gate: Gate
    link: LinkWatch

    def make_connection(self, client_id: int, **options: Any) -> IBConnection:
        """Return an unconnected IBConnection with the engine's host, port and account rules."""

    def set_state(self, state: str, message: str) -> None:
        """Show the engine's state."""

    def set_account(self, account_id: str) -> None:
        """Take note of the account that is traded."""

    def is_live_client(self, client_id: int) -> bool:
        """Tell whether a strategy of this engine is connected as that client and hears its own orders."""

    def on_connected(self, ib: Any) -> None:
        """Start what lives on the master's connection; called on its loop after every connect."""

    def on_ready(self) -> None:
        """Orders may flow from now on; called after every complete cycle."""

    def on_master_state(self, connected: bool, message: str) -> None:
        """Show the master's connection."""


class MasterSession:
    """Client 0 on its own thread and loop. ``start`` once; ``stop`` ends it for good."""

    def __init__(self, host: SessionHost, queue: MessageQueue, release_fills: Callable[[], None]) -> None:
        self._host = host
        self._queue = queue
        self._release_fills = release_fills
        self.times = CheckTimes()
        self._unreadable: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="mats-master", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._stop_wanted = threading.Event()
        self._paused = False
        self._losses = 0
        self.connection: IBConnection | None = None
        self._cycle_lock: asyncio.Lock

    # -- from other threads

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._started.wait(10.0)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Disconnect and end the thread."""
        self._stop_wanted.set()
        self._call(self._wake_stop)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def disconnect(self) -> None:
        """Disconnect the master and stay so until ``connect``."""
        self._paused = True
        self._call(lambda: self.connection.disconnect() if self.connection else None)

    def connect(self) -> None:
        """Let the master connect again."""
        self._paused = False
        self._call(lambda: self._resume.set())

    def run(self, make: Callable[[], Coroutine[Any, Any, Any]], timeout_s: float) -> Any:
        """Run a coroutine on the master's loop and return its result. Blocks the calling thread.

        Raises: TransientError when the session is not running or the time is over; whatever the coroutine raises.
        """
        future = self.begin(make)
        try:
            return future.result(timeout_s)
        except TimeoutError as error:
            future.cancel()
            raise TransientError(f"No answer within {timeout_s:g} s.", code="timeout") from error
        except CancelledError as error:
            raise TransientError("The master session ended.", code="no_connection") from error

    def begin(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Future[Any]:
        """Start a coroutine on the master's loop and return at once.

        Raises: TransientError when the session is not running.
        """
        loop = self._loop
        if loop is None or not loop.is_running():
            raise TransientError("The master session is not running.", code="no_connection")
        return asyncio.run_coroutine_threadsafe(make(), loop)

    def reconcile(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Replay the day's executions and compare positions now; return what was found.

        Raises: TransientError when the broker cannot be asked.
        """
        if self.connection is None or not self.connection.connected:
            raise TransientError("The master is not connected to the gateway.", code="no_connection")
        result: dict[str, Any] = self.run(self._cycle, timeout_s)
        return result

    @property
    def connected(self) -> bool:
        """Tell whether client 0 is connected at this moment."""
        return self.connection is not None and self.connection.connected

    def request_check(self) -> None:
        """Ask for a replay and comparison soon; returns at once. Thread-safe."""
        self._call(lambda: self._check_soon.set())

    def note_unreadable(self, what: str) -> None:
        """Have IB asked for what a strategy's connection could not read; returns at once. Thread-safe."""
        self._call(lambda: self._on_unreadable(what))

    @property
    def copies_skipped(self) -> int:
        """Count the messages of the drop copy that were taken off undecoded since the engine started."""
        return self._drop_copy.skipped

    def strategy_line_changed(self) -> None:
        """Have the drop copy speak for clients that hear nothing any more; returns at once. Thread-safe."""
        self._call(lambda: self._drop_copy.release())

    def _call(self, work: Callable[[], Any]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # closed meanwhile
                loop.call_soon_threadsafe(work)

    def _wake_stop(self) -> None:
        self._stop.set()
        self._resume.set()
        self._lost.set()
        self._check_soon.set()

    # -- the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception:
            logger.exception("master session died")
            self._host.gate.shut(gates.NOT_CONNECTED)
            self._host.set_state("waiting_for_gateway", "The master session died; restart the engine.")
        finally:
            self._loop = None
            database.close()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._resume, self._lost = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._check_soon = asyncio.Event()
        self._cycle_lock = asyncio.Lock()
        self.connection = self._host.make_connection(
            0,
            role="master",
            name="Master",
            on_state=self._on_state,
            on_error=self._on_error,
            on_decode_error=self._on_unreadable,
        )
        self._capture = Capture(
            self.connection.ib, self._queue.put, is_replay_ahead=lambda: self._queue.is_replay_ahead
        )
        self._drop_copy = DropCopy(
            self.connection.ib,
            is_live=self._host.is_live_client,
            has_heard=self._queue.has_heard,
            is_watched=lambda: bool(self._capture.observers),
        )
        self._capture.is_heard_elsewhere = self._drop_copy.is_copy
        self._state = BrokerState(self.connection, self._capture)
        self._reconciler = Reconciler(self._host, self._queue, self._state, self._release_fills, self.times)
        self._started.set()
        if self._stop_wanted.is_set():
            return
        try:
            await self._live()
        finally:
            self._host.gate.shut(gates.NOT_CONNECTED)
            self.connection.disconnect()

    async def _live(self) -> None:
        assert self.connection is not None  # noqa: S101 - made in _main
        while not self._stop.is_set():
            if self._paused:
                self._host.set_state("waiting_for_gateway", "Disconnected by an operator.")
                self._resume.clear()
                await self._resume.wait()
                continue
            try:
                if await self._connect():
                    await self._while_connected()
            except Exception as error:
                # Task border: a master that dies for good would leave the engine blind with its strategies running.
                logger.exception("master session failed")
                self.connection.disconnect()
                text = f"The master session failed ({type(error).__name__}: {error}) and begins anew; the log has more."
                self._host.set_state("reconciling", text)
                await self._sleep(RETRY_S)

    async def _connect(self) -> bool:
        assert self.connection is not None  # noqa: S101 - made in _main
        self._lost.clear()
        self._host.set_state("connecting", f"Connecting to {self.connection.host}:{self.connection.port}.")
        try:
            return await self.connection.connect_forever(self._stop)
        except ConfigError as error:
            logger.error("gateway refused: %s", error.message)  # noqa: TRY400 - one clear line, no trace
            self._host.link.hear(Word.REFUSED, error.message)
            self._host.set_state("waiting_for_gateway", error.message)
            await self._sleep(BAD_ACCOUNT_RETRY_S)
            return False

    async def _while_connected(self) -> None:
        assert self.connection is not None  # noqa: S101 - made in _main
        figures = asyncio.create_task(self._publish_figures())
        try:
            self._host.set_account(self.connection.account)
            self._host.on_connected(self.connection.ib)
            whole = True
            while not self._lost.is_set():
                if await self._try_cycle(whole=whole):
                    whole = await self._watch()
                else:
                    whole = True
                    await self._sleep(RETRY_S)
        finally:
            self._host.gate.shut(gates.NOT_CONNECTED)
            figures.cancel()

    async def _try_cycle(self, *, whole: bool) -> bool:
        self._check_soon.clear()  # here, not before the wait: a wish that comes during a comparison must not be lost
        try:
            await self._cycle(whole=whole)
        except (TransientError, LedgerError) as error:
            logger.warning("not reconciled reason=%s", error.message)
            self._host.set_state("reconciling", f"{error.message} Trying again.")
            return False
        except DatabaseError as error:
            logger.warning("not reconciled reason=%s", error)
            self._host.set_state("reconciling", f"The ledger cannot be read ({error}). Trying again.")
            return False
        except MatsError as error:
            logger.exception("not reconciled")
            self._host.set_state("reconciling", error.message)
            return False
        return not self._lost.is_set()

    async def _cycle(self, *, whole: bool = True) -> dict[str, Any]:
        async with self._cycle_lock:
            was_open = self._host.gate.is_open
            if not was_open:
                self._host.gate.shut(gates.NOT_RECONCILED)
                self._host.set_state("reconciling", "Replaying the day's executions and comparing positions.")
            begun_at, losses = self._host.link.now(), self._losses
            result = await self._reconciler.cycle(whole=whole or not was_open)
            # what IB lost and found again meanwhile may have lost a fill behind the part that was asked already
            is_whole = losses == self._losses and not self._lost.is_set()
            if is_whole and self.connection is not None and self.connection.upstream_ok:
                self._host.link.compared(begun_at)
                self._host.gate.open()
                self._host.set_state("running", result["message"])
                self._host.on_ready()
            return result

    async def _watch(self) -> bool:
        """Compare on a timer and replay now and then, until the line is lost or a check is asked for.

        Return whether the check that follows must look at the whole day: only one by the clock need not.
        """
        since_replay, since = 0.0, time.monotonic()
        while not self._lost.is_set():
            asked = await self._sleep(self.times.compare_every_s)
            if self._lost.is_set():
                return True
            since_replay += self.times.compare_every_s
            if asked or since_replay >= self.times.replay_every_s:
                # A message that stays unreadable asks anew after every replay: not more often than this.
                await asyncio.sleep(max(0.0, RETRY_S - (time.monotonic() - since)))
                return asked  # the caller runs a cycle
            if not await self._agrees():
                return True
        return True

    async def _agrees(self) -> bool:
        """Compare once; an answer that fails or is late says nothing, one that contradicts the books asks for more."""
        try:
            async with self._cycle_lock:
                return await self._reconciler.agrees()
        except TransientError as error:
            logger.info("not compared reason=%s", error.message)
            return True
        except (LedgerError, DatabaseError) as error:
            logger.warning("not compared reason=%s", error)
            return False

    async def _sleep(self, seconds: float) -> bool:
        """Wait, but not past a loss, a stop or a wish for a check; tell whether one of them came."""
        waits = [asyncio.create_task(event.wait()) for event in (self._lost, self._check_soon)]
        done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return bool(done)

    async def _publish_figures(self) -> None:
        while True:
            await asyncio.sleep(FIGURES_EVERY_S)
            try:
                await self._reconciler.publish_figures()
            except (MatsError, DatabaseError) as error:
                logger.warning("account figures not stored reason=%s", error)

    # -- what the connection says

    def _on_unreadable(self, what: str) -> None:
        """Ask for a replay, which brings what could not be read if IB has it; once, or it would ask for ever."""
        if what in self._unreadable:
            return
        if len(self._unreadable) >= UNREADABLE_KEPT:
            self._unreadable.clear()
        self._unreadable.add(what)
        self._check_soon.set()
        self._queue.submit(lambda: report_unreadable(what), "unreadable")

    def _on_state(self, connected: bool, message: str) -> None:
        if connected:
            self._lost.clear()  # set by the tries that failed before this one
            self._host.link.hear(Word.LINE_UP)
        else:
            self._losses += 1
            self._host.gate.shut(gates.NOT_CONNECTED)
            self._lost.set()
            self._host.set_state("waiting_for_gateway", message)
            was_up = self._host.link.link.has_line
            self._host.link.hear(Word.LINE_LOST if was_up else Word.NOT_CONNECTED, message)
        self._host.on_master_state(connected, message)

    def _on_error(self, code: int, text: str, req_id: int) -> None:
        actions = self._host.link.hear_code(code, text)
        if Action.SHUT in actions:
            self._losses += 1
            self._host.gate.shut(gates.NOT_CONNECTED)
            self._host.set_state("waiting_for_gateway", f"IB lost its own connection: {text}")
        elif Action.RECONCILE in actions:
            self._check_soon.set()
