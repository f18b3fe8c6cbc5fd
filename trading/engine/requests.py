"""One command as its handler sees it, and how a handler writes the books.

Owns: who asks, the key under which a deed happens once, the way through the message thread.
Rule: the deed, its events, its audit entry and the command's outcome are one transaction. An engine that dies leaves
either all of them or a command that did nothing; the same key asked again does nothing twice. How far a long deed is
stands in the result of its command while it runs, and is told to the pages each time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTimeError
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction

from strategies import audit
from strategies.exceptions import MatsError, StaleEpochError, TransientError
from trading.engine import events
from trading.engine.events import Event, EventKind
from trading.models import CommandState, EngineCommand

if TYPE_CHECKING:
    from trading.engine.manager import StrategyManager

Result = dict[str, Any]

BOOKS_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """A command's arguments and its caller; ``actor`` is a user's name, or the part of MATS that asked."""

    command_id: UUID
    kind: str
    args: Mapping[str, Any]
    actor: str
    source: str

    @property
    def key(self) -> str:
        """Return what makes the deed happen once: the caller's own key, else the command itself."""
        given = self.args.get("key")
        return f"op:{given}" if given else f"cmd:{self.command_id}"

    @property
    def reason(self) -> str:
        """Return why, in the caller's words."""
        return str(self.args.get("reason", ""))


def request_of(command: EngineCommand) -> Request:
    """Return a stored command as a request."""
    source = command.source if command.source in audit.SOURCES else audit.ENGINE
    actor = command.user.get_username() if command.user else source
    return Request(command.pk, command.kind, command.args, actor, source)


class _Turn:
    """Lets whoever waits give up only what has not begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = self._given_up = False

    def begin(self) -> bool:
        """Begin, or begin again after a rollback; tell False when nobody waits any more."""
        with self._lock:
            self._begun = not self._given_up
            return self._begun

    def give_up(self) -> bool:
        """Give up; tell False when the work is under way."""
        with self._lock:
            self._given_up = not self._begun
            return self._given_up


def in_books(
    engine: StrategyManager,
    request: Request,
    work: Callable[[datetime], Result],
    wait_s: float = BOOKS_WAIT_S,
    *,
    is_last: bool = True,
) -> Result:
    """Have ``work(now)`` done by the message thread with the command's outcome in the same transaction.

    Raises: what ``work`` raises, its writes taken back; TransientError (books_busy) when the message thread had no time
    for it (nothing was done then), or (outcome_unknown) when it does not end.
    """
    turn = _Turn()

    def _job() -> Result | MatsError | None:
        if not turn.begin():
            return None
        try:
            with transaction.atomic():
                result = work(datetime.now(UTC))
                _note(request, result, is_last=is_last)
        except StaleEpochError:
            raise
        except MatsError as refusal:  # an answer, not a fault of the job
            return refusal
        return result

    future: Future[Result | MatsError | None] = engine.message_queue.submit(_job, request.kind)
    try:
        outcome = future.result(wait_s)
    except NotInTimeError:
        if turn.give_up():
            raise TransientError("The books are busy; nothing was done. Try again.", code="books_busy") from None
        outcome = _wait_on(future.result)
    if outcome is None:
        raise TransientError("The books are busy; nothing was done. Try again.", code="books_busy")
    if isinstance(outcome, MatsError):
        raise outcome
    return outcome


def slice_in_books(engine: StrategyManager, request: Request, work: Callable[[datetime], Result]) -> Result:
    """Have a part of a long deed done by the message thread in a transaction of its own; others go between the parts.

    Its result is what the command shows while it runs. Raises: as ``in_books``.
    """
    return in_books(engine, request, work, is_last=False)


def note_progress(engine: StrategyManager, request: Request, progress: Result) -> None:
    """Have a running command say where it is, in its place among the jobs; returns at once and never fails the deed."""
    engine.message_queue.submit(lambda: _tell(request, progress), "progress")


def _wait_on(result: Callable[[float], Result | MatsError | None]) -> Result | MatsError | None:
    try:
        return result(BOOKS_WAIT_S)
    except NotInTimeError:
        raise TransientError(
            "The books take too long over this; look whether it was done before asking again.", code="outcome_unknown"
        ) from None


def _note(request: Request, result: Result, *, is_last: bool) -> None:
    if not is_last:
        _tell(request, result)
        return
    ended = {"state": CommandState.DONE, "finished_at": datetime.now(UTC)}
    EngineCommand.objects.filter(pk=request.command_id).update(result=result, **ended)


def _tell(request: Request, progress: Result) -> None:
    """Store how far a command is, and tell it; one that ended meanwhile keeps its outcome."""
    command = EngineCommand.objects.select_related("user").filter(pk=request.command_id).first()
    if command is not None and command.state == CommandState.ACCEPTED:
        command.result = progress
        command.save(update_fields=["result"])
        events.write([Event(EventKind.COMMAND, events.command_payload(command))])
