"""Who may call the API: an API key or a login session; reading needs either, writing needs the right to operate.

Rule: the check sits in the authentication that every route has by default, so a new route cannot forget it.
A key never does more than its user; a request that shows a bad key is refused even when a session comes with it.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from ninja.errors import AuthenticationError, Throttled
from ninja.security.apikey import APIKeyCookie, APIKeyHeader
from ninja.security.http import HttpAuthBase
from ninja.utils import check_csrf

from mats_site.services import verify_api_key
from strategies.api_rules import OPERATE, Caller

if TYPE_CHECKING:
    from django.contrib.auth.models import User

logger = logging.getLogger(__name__)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_WRONG_KEYS = 60  # from one address in one window; a client with a revoked key must not keep the database busy
WINDOW_S = 60


class ForbiddenError(Exception):
    """The caller is known and may not do this; becomes 403."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def _authorise(request: HttpRequest, user: User) -> None:
    if request.method in SAFE_METHODS or user.has_perm(OPERATE):
        return
    raise ForbiddenError("not_operator", "This needs the operator role; ask an administrator for it.")


def _by_key(request: HttpRequest, text: str) -> Caller:
    counter = f"api:wrong-keys:{request.META.get('REMOTE_ADDR', '')}"
    if cache.get(counter, 0) >= MAX_WRONG_KEYS:
        raise Throttled(WINDOW_S)
    key = verify_api_key(text.strip())
    if key is None:
        _count_wrong_key(counter)
        raise AuthenticationError(message="The API key is unknown, expired or revoked.")
    if request.method not in SAFE_METHODS and not key.can_write:
        raise ForbiddenError("read_only_key", "This API key may only read; make one with --write.")
    user = key.user
    _authorise(request, user)
    request.user = user  # the history of changes names whoever the key belongs to
    return Caller(user, "api")


def _count_wrong_key(counter: str) -> None:
    cache.add(counter, 0, WINDOW_S)
    with contextlib.suppress(ValueError):  # its window ended this very moment
        if cache.incr(counter) == MAX_WRONG_KEYS:
            logger.warning("api_wrong_keys counter=%r limit=%s", counter, MAX_WRONG_KEYS)


class BearerKeyAuth(HttpAuthBase):
    """``Authorization: Bearer mats_…``."""

    openapi_scheme = "bearer"

    def __call__(self, request: HttpRequest) -> Caller | None:
        """Return the caller, or None when the request shows no bearer token."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return _by_key(request, token) if scheme.lower() == "bearer" else None


class HeaderKeyAuth(APIKeyHeader):
    """``X-API-Key: mats_…``."""

    param_name = "X-API-Key"

    def authenticate(self, request: HttpRequest, key: str | None) -> Caller | None:
        """Return the caller, or None when the request shows no key."""
        return None if key is None else _by_key(request, key)


class SessionAuth(APIKeyCookie):
    """The console's login session; what changes state also needs the CSRF token."""

    param_name = settings.SESSION_COOKIE_NAME

    def __call__(self, request: HttpRequest) -> Any:
        """Return the caller, or None when nobody is logged in."""
        # Login first: whoever is not logged in hears 401, not a remark about CSRF.
        return self.authenticate(request, None)

    def authenticate(self, request: HttpRequest, key: str | None) -> Caller | None:
        """Return the caller of a live session."""
        if not request.user.is_authenticated:
            return None
        if check_csrf(request) is not None:
            raise ForbiddenError("csrf_failed", "The CSRF token is missing or wrong; send it as X-CSRFToken.")
        user = request.user
        _authorise(request, user)
        return Caller(user, "page")


def default_auth() -> list[Any]:
    """Return the authentication that every route has."""
    return [BearerKeyAuth(), HeaderKeyAuth(), SessionAuth()]
