"""Takes commands from the table, has them done, writes down what came of it.

Owns: claiming under the epoch, expiry, the thread of each command, outcome and event.
Leaves: the doing (``commands``), the audit entry (``trail``). Rule: a command is claimed by one engine, once; each
runs on its own thread, so that a slow stop holds nothing up; whatever a dead engine had accepted is failed, never done
again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import DatabaseError, OperationalError, connection, transaction

from strategies.crashpoints import reach
from strategies.exceptions import MatsError, StaleEpochError
from trading.engine import doorbell, events, trail
from trading.engine.events import Event, EventKind
from trading.engine.lease import Lease
from trading.models import CommandState, EngineCommand

logger = logging.getLogger(__name__)

POLL_S = 0.25
BATCH = 16
_SAVE_TRIES = 20
_SAVE_PAUSE_S = 0.25
ENGINE_DIED = "engine_died"

Handler = Callable[[EngineCommand], dict[str, Any]]

_CLAIM = """
UPDATE trading_enginecommand SET state = 'accepted', epoch = %s, accepted_at = %s
WHERE id IN (
    SELECT id FROM trading_enginecommand WHERE state = 'queued'
    ORDER BY priority DESC, created_at LIMIT {limit} {skip_locked}
) RETURNING id
"""


def _now() -> datetime:
    return datetime.now(UTC)


def _report(commands: list[EngineCommand]) -> None:
    events.write([Event(EventKind.COMMAND, events.command_payload(command)) for command in commands])


def fail_orphans(lease: Lease) -> int:
    """Fail what an earlier engine had accepted and did not finish; return how many there were."""
    with transaction.atomic():
        lease.assert_epoch()
        waiting = EngineCommand.objects.filter(state=CommandState.ACCEPTED).select_related("user")
        orphans = list(waiting.exclude(epoch=lease.epoch))
        for command in orphans:
            command.state, command.finished_at = CommandState.FAILED, _now()
            command.error, command.error_code = "The engine died before it was done.", ENGINE_DIED
            command.save(update_fields=["state", "finished_at", "error", "error_code"])
            trail.record_outcome(command)
        _report(orphans)
    return len(orphans)


def expire() -> list[EngineCommand]:
    """Mark what nobody claimed in time; inside a transaction."""
    waiting = EngineCommand.objects.filter(state=CommandState.QUEUED).select_related("user")
    late = list(waiting.select_for_update(skip_locked=True, of=("self",)).filter(expires_at__lt=_now()))
    for command in late:
        command.state, command.finished_at = CommandState.EXPIRED, _now()
        command.error, command.error_code = "No engine took it in time.", "expired"
        command.save(update_fields=["state", "finished_at", "error", "error_code"])
        trail.record_outcome(command)
    return late


def claim(lease: Lease, limit: int = BATCH) -> list[EngineCommand]:
    """Accept waiting commands under our epoch, most urgent first.

    Raises: StaleEpochError when another engine took over.
    """
    if not EngineCommand.objects.filter(state=CommandState.QUEUED).exists():
        return []  # a plain read: polling must not take the write lock
    with transaction.atomic():
        lease.assert_epoch()
        late = expire()
        sql = _CLAIM.format(
            limit=int(limit), skip_locked="FOR UPDATE SKIP LOCKED" if connection.vendor == "postgresql" else ""
        )
        moment = connection.ops.adapt_datetimefield_value(_now())
        with connection.cursor() as cursor:
            cursor.execute(sql, [lease.epoch, moment])
            ids = [row[0] for row in cursor.fetchall()]
        claimed = sorted(
            EngineCommand.objects.select_related("user").filter(id__in=ids),
            key=lambda command: (-command.priority, command.created_at),
        )
        _report([*late, *claimed])
    doorbell.ring()
    return claimed


class Dispatcher:
    """The thread that claims, and one thread per running command."""

    def __init__(self, lease: Lease, handlers: Mapping[str, Handler], on_stale: Callable[[], None]) -> None:
        self._lease = lease
        self._handlers = handlers
        self._on_stale = on_stale
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mats-commands", daemon=True)
        self._working: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start claiming."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Claim nothing more; wait for running commands until the time is over."""
        self._stopping.set()
        doorbell.ring(doorbell.COMMANDS)
        deadline = time.monotonic() + timeout_s
        with self._lock:
            waiting = [self._thread, *self._working]
        for thread in waiting:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        try:
            with doorbell.Listener(doorbell.COMMANDS) as bell:
                while not self._stopping.is_set():
                    if not self._take():
                        bell.wait(POLL_S)
        except StaleEpochError:
            self._on_stale()
        finally:
            connection.close()

    def _take(self) -> bool:
        """Claim once; tell whether there was anything."""
        try:
            claimed = claim(self._lease)
        except DatabaseError as error:
            logger.warning("commands cannot be read reason=%s", error)
            connection.close()
            return False
        for command in claimed:
            thread = threading.Thread(
                target=self._work, args=(command,), name=f"mats-command-{command.kind}", daemon=True
            )
            with self._lock:
                self._working.add(thread)
            thread.start()
        return bool(claimed)

    def _work(self, command: EngineCommand) -> None:
        try:
            before = self._before(command)
            self._do(command)
            reach("outcome")
            self._save(command, before)
        finally:
            connection.close()
            with self._lock:
                self._working.discard(threading.current_thread())

    def _before(self, command: EngineCommand) -> dict[str, Any] | None:
        try:
            return trail.state_before(command)
        except DatabaseError as error:  # it is for the trail alone: stopping a strategy must not wait for it
            logger.warning("state before a command not read kind=%s reason=%s", command.kind, error)
            connection.close()
            return None

    def _do(self, command: EngineCommand) -> None:
        logger.info("command accepted kind=%s args=%s source=%s", command.kind, command.args, command.source)
        try:
            handler = self._handlers.get(command.kind)
            if handler is None:
                _fail(command, f"This engine does not know {command.kind}.", "unknown_command")
                return
            command.result = handler(command)
            command.state = CommandState.DONE
        except MatsError as error:
            _fail(command, error.message, error.code)
            if "margin" in error.fields:  # what IB said, and which limit it would break
                command.result = {"margin": error.fields["margin"]}
        except Exception as error:
            logger.exception("command failed kind=%s args=%s", command.kind, command.args)
            _fail(command, f"{type(error).__name__}: {error}", "internal_error")

    def _save(self, command: EngineCommand, before: dict[str, Any] | None) -> None:
        """Write the outcome; an outcome that cannot be written is tried again, the deed is done."""
        command.finished_at = _now()
        for _ in range(_SAVE_TRIES):
            try:
                with transaction.atomic():
                    self._lease.assert_epoch()
                    command.save(update_fields=["state", "finished_at", "result", "error", "error_code"])
                    trail.record_outcome(command, before)
                    _report([command])
            except OperationalError as error:
                logger.warning("command outcome not written kind=%s reason=%s", command.kind, error)
                connection.close()
                self._stopping.wait(_SAVE_PAUSE_S)
            except StaleEpochError:
                self._on_stale()
                return
            else:
                doorbell.ring()
                return


def _fail(command: EngineCommand, error: str, code: str) -> None:
    logger.warning("command failed kind=%s code=%s reason=%s", command.kind, code, error)
    command.state = CommandState.FAILED
    command.error, command.error_code = error[:400], code[:40]
