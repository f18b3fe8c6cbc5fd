"""Hand a request of the API to the engine, or say that no engine is there to take it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from strategies.api_rules import caller, idempotency_key
from strategies.exceptions import TransientError
from trading.api_queries import queued_before
from trading.queries import engine_state
from trading.services import enqueue


def require_engine(key: str | None) -> None:
    """Refuse while no engine holds the lease; a repeated request hears of its first outcome even then.

    Raises: TransientError (engine_down).
    """
    if not queued_before(key) and not engine_state()["running"]:
        raise TransientError(
            "The engine is not running, so nothing was queued. Start it (manage.py run_engine) and try again.",
            code="engine_down",
        )


def queue(request: HttpRequest, response: HttpResponse, kind: str, /, **args: Any) -> dict[str, Any]:
    """Queue a command and return the 202 body; nothing is queued while no engine holds the lease.

    Raises: TransientError (engine_down); ConflictError when the idempotency key belongs to another request.
    """
    key = idempotency_key(request)
    require_engine(key)
    asked = caller(request)
    command = enqueue(kind, args, user=asked.user, source=asked.source, idempotency_key=key)
    status_url = reverse("api:get_command", kwargs={"command_id": command.pk})
    response["Location"] = status_url
    return {"command_id": command.pk, "state": command.state, "status_url": status_url}
