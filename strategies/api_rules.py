"""What every route of the API knows about its caller and its request.

Owns: who calls (set by the site's authentication), the idempotency key of a request.
Leaves: authentication itself and the answers to errors (``mats_site``), because the site mounts the routers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from django.http import HttpRequest

from strategies.exceptions import ConfigError

if TYPE_CHECKING:
    from django.contrib.auth.models import User

OPERATE = "trading.operate"
IDEMPOTENCY_HEADER = "Idempotency-Key"
_IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes this request: ``source`` is «api» for a key and «page» for a session."""

    user: User
    source: Literal["api", "page"]


def caller(request: HttpRequest) -> Caller:
    """Return the authenticated caller; routes are never reached without one."""
    return cast(Caller, request.auth)  # type: ignore[attr-defined]  # set by ninja from the authentication's answer


def idempotency_key(request: HttpRequest) -> str | None:
    """Return the request's idempotency key, private to its user, or None without the header.

    Raises: ConfigError when the header is not 1–64 characters of the permitted set.
    """
    given = request.headers.get(IDEMPOTENCY_HEADER)
    if given is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(given):
        raise ConfigError(
            f"{IDEMPOTENCY_HEADER} must be 1 to 64 letters, digits, dots, colons, dashes or underscores.",
            code="bad_idempotency_key",
        )
    return f"{caller(request).user.pk}:{given}"
