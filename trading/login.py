"""Sign in, with a limit on wrong passwords and a line in the log for every try.

Rule: twenty wrong passwords an hour, by address and by name, whichever comes first; a right one clears the name.
Each web process counts its own, in memory: a restart forgets, which an operator who locked himself out may use.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse

logger = logging.getLogger(__name__)

MAX_FAILURES = 20
WINDOW_S = 3_600
TOO_MANY = "Too many wrong passwords. Wait an hour, or restart the web process on the server."


def _keys(request: HttpRequest, username: str) -> tuple[str, str]:
    # Hashed, because a name may be any text and cache keys may not.
    name = hashlib.sha256(username.casefold().encode()).hexdigest()
    return f"login:address:{request.META.get('REMOTE_ADDR', '')}", f"login:name:{name}"


class ThrottledLoginView(LoginView):
    """The login page; too many failures are refused before the password is looked at."""

    template_name = "registration/login.html"

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Refuse with 429 over the limit, else sign in as usual."""
        keys = _keys(request, request.POST.get("username", ""))
        if any(cache.get(key, 0) >= MAX_FAILURES for key in keys):
            self._audit("login_throttled", request.POST.get("username", ""))
            context = self.get_context_data(form=self.get_form_class()(request), refusal=TOO_MANY)
            return self.render_to_response(context, status=429)
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Sign in and forget the name's failures."""
        username = form.get_user().get_username()
        cache.delete(_keys(self.request, username)[1])
        self._audit("login", username)
        return super().form_valid(form)

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        """Count the failure for address and name."""
        username = form.data.get("username", "")
        for key in _keys(self.request, username):
            cache.add(key, 0, WINDOW_S)
            with contextlib.suppress(ValueError):  # its hour ended this very moment
                cache.incr(key)
        self._audit("login_failed", username)
        return super().form_invalid(form)

    def _audit(self, event: str, username: str) -> None:
        address = self.request.META.get("REMOTE_ADDR", "")
        level = logging.INFO if event == "login" else logging.WARNING
        logger.log(level, "audit event=%s user=%r address=%s", event, username[:150], address)
