"""One-time passwords: whoever signs in with one sees only the form that changes it.

Rule: the mark is bound to the very hash it was made for, so that any change of the password, by page, admin or command
line, lifts it without anybody having to remember.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse, reverse_lazy
from django.utils.crypto import constant_time_compare, salted_hmac

from mats_site.models import OneTimePassword

if TYPE_CHECKING:
    from django.contrib.auth.models import User

CHANGE_URL_NAME = "password_change"


def _fingerprint(user: AbstractBaseUser) -> str:
    return salted_hmac("mats_site.one_time_password", user.password, algorithm="sha256").hexdigest()


def require_password_change(user: User) -> None:
    """Make the user's present password a one-time password."""
    OneTimePassword.objects.update_or_create(user=user, defaults={"fingerprint": _fingerprint(user)})


def must_change_password(user: AbstractBaseUser) -> bool:
    """Tell whether the user still has the one-time password."""
    mark = OneTimePassword.objects.filter(user_id=user.pk).first()
    return mark is not None and constant_time_compare(mark.fingerprint, _fingerprint(user))


class OneTimePasswordMiddleware:
    """Send every request of a user with a one-time password to the form; the API says so in its own shape."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Let pass, or redirect."""
        change = reverse(CHANGE_URL_NAME)
        is_open = request.path in {change, reverse("logout"), "/healthz"}
        if is_open or not request.user.is_authenticated or not must_change_password(request.user):
            return self.get_response(request)
        if request.path.startswith("/api/"):
            error = {
                "code": "password_change_required",
                "message": "Change the one-time password first, on the password page.",
                "fields": {},
            }
            return JsonResponse({"error": error}, status=403)
        return redirect(change)


class ChangePasswordView(PasswordChangeView):
    """The form in the console's own shell; afterwards the dashboard."""

    template_name = "registration/password_change.html"
    success_url = reverse_lazy("dashboard")
