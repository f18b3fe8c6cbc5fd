"""The engine's parts put together, and what they ask of one another.

Owns: making and wiring the parts, start and shutdown in order, the engine's state, the sides that strategies, session
and supervisor see. Leaves the public interface of the seeds to ``manager``.
Rule: the constructor opens nothing. Start: lease, ledger writer, commands, master; orders only after the books agree.
Shutdown: gate, strategies, master, queue drained, projections, lease.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

from django.conf import settings as django_settings
from django.db import connection as database
from django.db import transaction
from ib_async import IB

from portfolio.arctic.parcels import prune as prune_parcels
from portfolio.manager import PortfolioManager
from portfolio.models import Account, ArcticParcel
from strategies.exceptions import MatsError
from strategies.models import Strategy
from trading.engine import commands
from trading.engine import gate as gates
from trading.engine.check_alerts import report_store
from trading.engine.companion import QueueConnection
from trading.engine.data_watch import DataWatch
from trading.engine.dispatch import Dispatcher, fail_orphans
from trading.engine.handlers import Folding
from trading.engine.heartbeat import heartbeat_status
from trading.engine.jobs import (
    CHECKPOINT_EVERY_S,
    MEMORY_EVERY_S,
    PRUNE_EVERY_S,
    Periodic,
    checkpoint,
    give_memory_back,
    keep_rates,
    prune,
    snapshot_equity,
)
from trading.engine.lease import Lease
from trading.engine.lifecycle import StrategyState
from trading.engine.lines import StrategyLines
from trading.engine.live_market import LiveMarket
from trading.engine.loglines import EventLogHandler
from trading.engine.margin_shares import LOOK_EVERY_S as MARGIN_LOOK_S
from trading.engine.message_queue import Job, MessageQueue, Slot
from trading.engine.options import EngineSettings, account_rule, bind_to_ledger
from trading.engine.projection import Projection
from trading.engine.publisher import Publisher
from trading.engine.risk_side import RiskSide
from trading.engine.schedule import LOOK_EVERY_S, Schedule
from trading.engine.session import MasterSession
from trading.engine.sessions import LiveSessions
from trading.engine.strategy_side import StrategySide
from trading.engine.supervisor import Supervisor
from trading.engine.tellers import alert_sender, link_watch
from trading.engine.undescribed import is_under_way
from trading.engine.writer import LedgerWriter
from trading.ib.connection import IBConnection
from trading.ib.history_span import SharedSpan
from trading.ib.pacing import HISTORY_SPAN_S, Budget
from trading.market import calendar_rows
from trading.market.fx_source import FxSource, renewed_rates
from trading.market.handover import report_refused
from trading.market.recorder import MarketRecorder
from trading.models import StrategyRun
from trading.orders import services as orders
from trading.orders.intents import IntentWriter
from trading.orders.trade_manager import TradeManager

logger = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
BEATS_EVERY_S = 5.0
RATES_EVERY_S = 60.0
ALERTS_EVERY_S = 2.0
CALENDAR_EVERY_S = 30.0
SESSIONS_EVERY_S = 5.0
DRAIN_S = 30.0
PARCELS_EVERY_S = 1.0
START_FIRST = timedelta(seconds=10)  # for so long ArcticDB waits for a start
_STARTING = frozenset({"starting", "connecting", "reconciling"})
VERSION = "0.1.0"
LEDGER_ALERT = "ledger:trouble"


class EngineCore(RiskSide, StrategySide):
    """All parts of one engine. Thread-safe."""

    QUEUE_CLIENT_ID = 99
    stop_grace_s = 20.0  # what a strategy gets beyond its drain to unwind and disconnect

    def __init__(self, arctic_client: Any = None, *, settings: EngineSettings | None = None) -> None:
        self.settings: EngineSettings = settings or django_settings.MATS
        self._account_rule = account_rule(self.settings)
        self._arctic_client = arctic_client
        self.portfolio_manager = PortfolioManager(self, record_status=self._record_status)
        self.message_queue = MessageQueue(self.settings.queue_size)
        self.lease = Lease(self.settings.lease_ttl_s)
        self._make_risk(self.settings)
        self.account_id = self._account_rule.account
        self.state, self.state_message = "stopped", ""
        self.started_at: datetime | None = None
        self.stale = False
        self.autostart = True
        self.stop_event = threading.Event()
        self.recorder: MarketRecorder | None = None
        self._state_lock = threading.Lock()
        self._autostarted = self._allocate_asked = False
        self._beats_written = 0.0
        self._currencies_known: set[str] = set()
        self._equity: Future[Any] = Future()  # the latest snapshot of it
        self._equity.set_result(None)
        self.session_claims = {}
        self._make_parts()

    def _make_parts(self) -> None:
        self.publisher = Publisher(self.message_queue, lambda: self.lease.epoch)
        self.folding = Folding(lambda: self.account_id, self.message_queue)
        self.writer = LedgerWriter(
            self.message_queue,
            self.folding,
            self.lease.assert_epoch,
            on_stale=self.on_stale,
            on_trouble=self._on_ledger_trouble,
            on_parked=self._on_parked,
        )
        self.budget = _budget(self.settings)
        self.link = link_watch(self.settings, self.message_queue)
        self.data_watch = DataWatch(self.risk.hours, self.message_queue)
        self.gate.reset_hold = self.link.hold
        self.alert_sender = alert_sender(self.settings, self.message_queue)
        self.intents = IntentWriter(self.lease.assert_epoch)
        self.supervisor = Supervisor(self)
        self.lines = StrategyLines(
            self,
            self.message_queue,
            max_clients=self.settings.max_clients,
            router_size=self.settings.strategies_per_connection,
            watch=self.data_watch.follow,
        )
        self.session = MasterSession(self, self.message_queue, self.folding.release)
        self.companion = QueueConnection(
            self.make_connection, lambda up, text: self.publisher.connection(99, "queue", "Message queue", up, text)
        )
        self.market = LiveMarket(self.session, self.budget, lambda: self.ac, self.keep_bars)
        self.sessions = LiveSessions(cast(Any, self))
        self.trade_manager = TradeManager(cast(Any, self))
        self._watching = self._begin_order_side()
        self.dispatcher = Dispatcher(self.lease, commands.bind(cast(Any, self)), self.on_stale)
        self.projection = Projection(self.lease.assert_epoch)
        self._store_told: str | None = None
        self.portfolio_manager.fx_cache.spot = FxSource(self._master_ib, self.session.begin)
        self._rates = Periodic("rates", RATES_EVERY_S, self._keep_rates)
        self.schedule = Schedule(self)
        self._heartbeat = Periodic("heartbeat", HEARTBEAT_S, self._beat, self.on_stale)
        self._jobs = self._make_jobs()
        self._log_handler = EventLogHandler(self.publisher.log)

    def _make_jobs(self) -> list[Periodic]:
        """Return what is done by the clock, in the order in which it is started."""
        return [
            self._rates,
            self._watching,
            Periodic("equity", self.settings.equity_interval_s, self._snapshot),
            Periodic("prune", PRUNE_EVERY_S, self._prune, self.on_stale),
            Periodic("checkpoint", CHECKPOINT_EVERY_S, checkpoint),
            Periodic("memory", MEMORY_EVERY_S, give_memory_back),
            Periodic("hourly", LOOK_EVERY_S, self.schedule.keep_hour),
            Periodic("rebalance", LOOK_EVERY_S, self.schedule.rebalance),
            Periodic("projector", 1.0, self._project),
            Periodic("parcels", PARCELS_EVERY_S, self._take_parcels, self.on_stale),
            Periodic("sessions", SESSIONS_EVERY_S, self.sessions.tick),
            Periodic("calendar", CALENDAR_EVERY_S, lambda: void(calendar_rows.refresh())),
            *(
                Periodic(f"alerts-{one.name}", ALERTS_EVERY_S, partial(self.alert_sender.turn_of, one))
                for one in self.alert_sender.channels
            ),
            Periodic("margin", MARGIN_LOOK_S, self.margin_shares.look),
        ]

    # -- life

    def start(self) -> None:
        """Take the lease and start every part; returns at once, the gateway may come later.

        Raises: EngineHeldError when another engine runs; ConfigError when the ledger belongs to another account.
        """
        opened = Account.objects.filter(opened_at__isnull=False).values_list("account_id", flat=True)
        self._account_rule = bind_to_ledger(self._account_rule, list(opened))
        self.account_id = self._account_rule.account
        epoch = self.lease.acquire()
        self.started_at = datetime.now(UTC)
        logger.info("engine started epoch=%s holder=%s", epoch, self.lease.holder)
        logging.getLogger().addHandler(self._log_handler)
        self._reset_runs()
        self.writer.start()
        self.risk.start()
        self.set_state("starting", "Starting.")
        self._heartbeat.start()
        fail_orphans(self.lease)
        self.market.open()
        self.sessions.open()
        self.session.start()
        self.dispatcher.start()
        for job in self._jobs:
            job.start()

    def run_forever(self) -> None:
        """Start, work until ``stop_event`` is set, then clean up."""
        self.start()
        self.stop_event.wait()
        self.cleanup()

    def cleanup(self, stop_timeout_s: float | None = None) -> dict[str, bool]:
        """Stop everything in order; tell of each strategy whether its thread ended. A second call does nothing."""
        with self._state_lock:
            if self.state in ("stopping", "stopped"):
                return {}
            self.state = "stopping"
        self.stop_event.set()  # whoever waits for somebody outside, such as IB's statements, gives up
        self.gate.shut(gates.ENGINE_STOPPING)
        if self.stale:
            return self._abandon()
        self.state_message = "Stopping the strategies."
        self.publisher.engine("stopping", self.state_message)
        self.sessions.stop_all(self.stop_grace_s)
        self.supervisor.close()
        timeout_s = self.settings.stop_timeout_s if stop_timeout_s is None else stop_timeout_s
        ended = self.supervisor.stop_all(timeout_s, self.stop_grace_s)
        self.dispatcher.stop(self.stop_grace_s)
        self.lines.routers.stop(self.stop_grace_s)
        self.session.stop()
        if self.recorder is not None:
            self.recorder.join(DRAIN_S)  # ended with its connection; the process must not exit under its last append
        self._finish()
        return ended

    def _finish(self) -> None:
        self.risk.stop(1.0)
        for job in self._jobs:
            job.stop(DRAIN_S)
        self.publisher.engine("stopped", "Stopped in order.")
        logging.getLogger().removeHandler(self._log_handler)
        drained = self.writer.stop(DRAIN_S)
        if not drained:
            logger.error(
                "queue not drained left=%s; the next start replays the day's executions", len(self.message_queue)
            )
        self.projection.finish()
        self._heartbeat.stop(5.0)
        self.state, self.state_message = "stopped", "Stopped in order." if drained else "Stopped with messages left."
        try:
            self.lease.release(self.heartbeat_status())
        finally:
            database.close()
        logger.info("engine stopped")

    def _abandon(self) -> dict[str, bool]:
        """End without touching the database: it belongs to another engine now."""
        self.supervisor.close()
        ended = self.supervisor.stop_all(0.0, self.stop_grace_s)
        self._heartbeat.stop(1.0)
        self.risk.stop(1.0)
        for job in self._jobs:
            job.stop(1.0)
        self.dispatcher.stop(1.0)
        self.lines.routers.stop(1.0)
        self.session.stop()
        self.writer.stop(1.0)
        logging.getLogger().removeHandler(self._log_handler)
        self.state, self.state_message = "stopped", "Another engine took over."
        return ended

    def _reset_runs(self) -> None:
        """Say of every strategy that an earlier engine left behind that it does not run."""
        with transaction.atomic():
            self.lease.assert_epoch()
            StrategyRun.objects.exclude(state__in=[StrategyState.STOPPED, StrategyState.FAILED]).update(
                state=StrategyState.STOPPED, client_id=None, connected=False, message="the engine was restarted"
            )

    def _project(self) -> None:
        """Append to ArcticDB, but not beside a start: catching up computes, and orders would flow seconds later."""
        if self._may_project():
            self.projection.flush()

    def _may_project(self) -> bool:
        is_new = self.started_at is not None and datetime.now(UTC) - self.started_at < START_FIRST
        return not (is_new and self.state in _STARTING)

    def _prune(self) -> None:
        prune(self.lease.assert_epoch)
        prune_parcels(datetime.now(UTC))

    def _take_parcels(self) -> None:
        """Write what other processes handed over for ArcticDB; in the engine they wait until a start is through."""
        if self._may_project():
            self.projection.take_parcels(self._tell_refused)

    def _tell_refused(self, row: ArcticParcel) -> None:
        self.message_queue.submit(partial(report_refused, row), "parcel")

    def set_state(self, state: str, message: str) -> None:
        """Show the engine's state; once stopping, nothing else."""
        with self._state_lock:
            if self.state == "stopping" or (self.state, self.state_message) == (state, message):
                return
            self.state, self.state_message = state, message
        logger.info("engine state=%s message=%s", state, message)
        self.publisher.engine(state, message)

    def on_stale(self) -> None:
        """Stop at once: another engine holds the lease."""
        if not self.stale:
            self.stale = True
            logger.error("another engine holds the lease; this one stops")
            self.gate.shut(gates.ENGINE_STOPPING)
            self.stop_event.set()

    # -- what the message thread reports

    def _on_ledger_trouble(self, text: str) -> None:
        self.gate.set_ledger_trouble(bool(text))
        if text:
            self.state_message = text
            self.alert_sender.shout(LEDGER_ALERT, "The ledger cannot be written", text)
        else:
            self.alert_sender.hush(LEDGER_ALERT)
            self.session.request_check()

    def _on_parked(self, slot: Slot, error: BaseException) -> None:
        what = slot.item.name if isinstance(slot.item, Job) else str(slot.item and slot.item["type"])
        if is_under_way(error):
            self.publisher.log("info", "", f"A {what} message waits until IB has described its contract.", __name__)
        else:
            text = f"A {what} message could not be booked and was set aside: {error}"
            self.publisher.log("error", "", text, __name__)
        self.session.request_check()

    def _record_status(self, strategy: str, trade: Any, status: Any) -> Any:
        return orders.record_status(trade, status, datetime.now(UTC))

    # -- what the session asks

    def make_connection(self, client_id: int, **options: Any) -> IBConnection:
        """Return an unconnected IBConnection with the engine's host, port and account rules."""
        return IBConnection(
            client_id,
            host=self.settings.ib_host,
            port=self.settings.ib_port,
            connect_timeout_s=self.settings.ib_connect_timeout_s,
            expected_account=self.account_id,
            paper_only=self._account_rule.paper_only,
            budget=self.budget,
            **options,
        )

    def note_unreadable(self, what: str) -> None:
        """Have the day asked for again: a message of a strategy's line could not be read."""
        self.session.note_unreadable(what)

    def set_account(self, account_id: str) -> None:
        """Take note of the account that is traded; it stays for the life of the engine."""
        self.account_id = account_id

    def is_live_client(self, client_id: int) -> bool:
        """Tell whether a strategy is connected as that client and hears its own orders; a hung loop does not."""
        return self.lines.is_live(client_id) and self.speaks_for_itself(client_id)

    def on_master_state(self, connected: bool, message: str) -> None:
        """Show the master's connection."""
        self.publisher.connection(0, "master", "Master", connected, message)

    def on_connected(self, ib: IB) -> None:
        """Start what lives on the master's connection; called on its loop after every connect."""
        self.market.attach(ib)
        self.recorder = MarketRecorder(
            ib,
            on_marks=self.publisher.marks,
            on_bar=self.publisher.bar,
            on_price=self.risk.quotes.take,
            lines=self.market.lines,
        )
        self.data_watch.follow_recorder(ib, self.recorder)
        if self.companion.connection is None:
            self.writer.spawn(self.companion.keep)

    def on_ready(self) -> None:
        """Renew rates; start the active strategies, the first time that orders may flow."""
        self._rates.wake()
        if self._autostarted or not self.autostart:
            return
        self._autostarted = True
        threading.Thread(target=self._autostart, name="mats-autostart", daemon=True).start()

    def _autostart(self) -> None:
        try:
            for symbol in Strategy.objects.filter(active=True).values_list("symbol", flat=True):
                try:
                    commands.resume(cast(Any, self), symbol)
                except MatsError as error:
                    self.log(symbol, f"Not started with the engine: {error.message}", "warning")
        finally:
            database.close()

    # -- by the clock

    def _beat(self) -> None:
        self.lease.renew(self.heartbeat_status())
        self.supervisor.tick()
        if self.link.tick():
            self.session.request_check()
        if time.monotonic() - self._beats_written >= BEATS_EVERY_S:
            self._beats_written = time.monotonic()
            rows = [runner.row() for runner in self.supervisor.alive() if runner.beat_at is not None]
            if rows:
                self.message_queue.submit(lambda: StrategyRun.objects.bulk_update(rows, ["heartbeat_at"]), "heartbeats")
            self._tell_store(str(self.projection.status()["alert"]))
        if self.folding.undescribed.take_overdue():
            self.message_queue.submit(lambda: self.folding.undescribed.report(datetime.now(UTC)), "undescribed")

    def _tell_store(self, words: str) -> None:
        """Have the alert of the research store follow what is measured; at the start it may stand from before."""
        if words != self._store_told:
            self._store_told = words
            self.message_queue.submit(lambda: report_store(words), "store_alert")

    def heartbeat_status(self) -> dict[str, Any]:
        """Return the figures of the heartbeat row."""
        return heartbeat_status(self, VERSION)

    def connection_rows(self) -> list[dict[str, Any]]:
        """Return all connections as they are now: master, message queue, strategies."""
        own = [self.session.connection, self.companion.connection]
        return [*(one.status() for one in own if one is not None), *self.lines.statuses()]

    def _master_ib(self) -> IB | None:
        connection = self.session.connection
        return connection.ib if connection is not None and connection.connected else None

    def _keep_rates(self) -> None:
        """Renew the exchange rates that IB's account figures do not bring; cash that waited for one is given out."""
        if self.account_id and self.session.connected and self.gate.is_open:
            found = renewed_rates(self.account_id, self.portfolio_manager.fx_cache)
            if found:
                self.message_queue.submit(lambda: keep_rates(self.account_id, found), "rates")
            if found.keys() - self._currencies_known:
                self._allocate_soon()
                self._currencies_known |= found.keys()

    def _snapshot(self) -> None:
        """Have the equity of this moment kept; one at a time, or a thread that is behind would fall ever further."""
        if self.account_id and self.session.connected and self._equity.done():
            self._equity = self.message_queue.submit(lambda: snapshot_equity(self.account_id), "equity")


def _budget(settings: EngineSettings) -> Budget:
    """Return what all connections of an engine may use; small bars are counted with every process of its home."""
    return Budget(
        sockets=settings.max_clients,
        messages_per_s=settings.messages_per_s,
        lines=settings.market_lines,
        history_span=SharedSpan(settings.mats_home / "run" / "history.span", HISTORY_SPAN_S),
    )


def void(_: object) -> None:
    """Take a result that nobody wants."""
