"""Writes of the trading app that do not need the engine's lease: asking the engine for something.

Rule: a request is a row; nothing reports success before the engine acknowledged it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction

from strategies.exceptions import ConflictError, NotFoundError, TransientError
from trading.engine import doorbell
from trading.engine.specs import check_args
from trading.models import CommandState, EngineCommand
from trading.queries import engine_state

FINISHED = (CommandState.DONE, CommandState.FAILED, CommandState.EXPIRED)
_POLL_S = 0.25  # a lost ring costs at most this


def enqueue(
    kind: str,
    args: Mapping[str, Any],
    *,
    user: User | AnonymousUser | None = None,
    source: str,
    idempotency_key: str | None = None,
    expires_in_s: float | None = None,
    priority: int = 0,
) -> EngineCommand:
    """Ask the engine for something; return the stored command. The same key returns the same command.

    Raises: ConfigError for an unknown kind or bad arguments; ConflictError when the key belongs to another request.
    """
    spec = check_args(kind, args)
    now = datetime.now(UTC)
    command = EngineCommand(
        kind=kind,
        args=dict(args),
        idempotency_key=idempotency_key,
        priority=priority or spec.priority,
        user=user if isinstance(user, User) else None,
        source=source,
        created_at=now,
        expires_at=now + timedelta(seconds=expires_in_s if expires_in_s is not None else spec.expires_in_s),
    )
    try:
        with transaction.atomic():
            command.save(force_insert=True)
            transaction.on_commit(lambda: doorbell.ring(doorbell.COMMANDS))
    except IntegrityError:
        if idempotency_key is None:
            raise
        return _same_request(idempotency_key, kind, dict(args))
    return command


def answer_of(kind: str, args: Mapping[str, Any], *, user: Any = None, source: str, wait_s: float) -> dict[str, Any]:
    """Return the engine's answer to a question that changes nothing. Blocks its thread.

    Raises: TransientError while no engine answers, with the engine's own reason where it has one; ConfigError for bad
    arguments.
    """
    if not engine_state()["running"]:
        raise TransientError("The engine is not running; nothing can be asked.", code="engine_down")
    asked = enqueue(kind, args, user=user, source=source, expires_in_s=wait_s)
    command = wait_for(asked.pk, wait_s)
    if command.state != CommandState.DONE:
        text = command.error or "The engine has not answered in time."
        raise TransientError(text, code=command.error_code or "timeout")
    return dict(command.result or {})


def _same_request(key: str, kind: str, args: dict[str, Any]) -> EngineCommand:
    earlier = EngineCommand.objects.get(idempotency_key=key)
    if earlier.kind != kind or earlier.args != args:
        raise ConflictError(
            "This idempotency key was used for another request; take a new one.",
            code="idempotency_key_reused",
            command_id=str(earlier.id),
        )
    return earlier


def wait_for(
    command_id: UUID | str, timeout_s: float, seen: Callable[[EngineCommand], object] = lambda _: None
) -> EngineCommand:
    """Return the command as soon as it is finished, or as it stands when the time is over. Blocks its thread.

    ``seen`` is called with the command at each look before that: what it says of how far it is stands in ``result``.
    Raises: NotFoundError when there is no such command.
    """
    deadline = time.monotonic() + timeout_s
    with doorbell.Listener() as bell:
        while True:
            command = EngineCommand.objects.select_related("user").filter(pk=command_id).first()
            if command is None:
                raise NotFoundError(f"There is no command {command_id}.", code="unknown_command")
            left = deadline - time.monotonic()
            if command.state in FINISHED or left <= 0:
                return command
            seen(command)
            bell.wait(min(left, _POLL_S))
