"""Every error of the API in one JSON shape: ``{"error": {"code", "message", "fields"}}``.

Owns: which exception becomes which status. Leaves: the sentences, which the exceptions carry.
Rule: an unexpected error answers 500 with a reference; its traceback goes to the log under that reference, never out.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation, ValidationError
from django.db import IntegrityError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from ninja import NinjaAPI
from ninja.errors import HttpError, Throttled
from ninja.errors import ValidationError as RequestInvalid
from ninja.responses import NinjaJSONEncoder

from mats_site.api_auth import ForbiddenError
from mats_site.api_parser import MAX_BODY_BYTES
from strategies import exceptions as errors

logger = logging.getLogger(__name__)

RETRY_AFTER_S = "2"

# The nearest class in the exception's ancestry decides.
STATUS_BY_CLASS: dict[type[errors.MatsError], int] = {
    errors.MatsError: 400,
    errors.ConfigError: 422,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.TransientError: 503,
    errors.OrderRefusedError: 409,
    errors.OrderRejectedError: 422,
    errors.StrategyError: 409,
    errors.LoadError: 422,
    errors.LedgerError: 503,
    errors.StaleEpochError: 409,
}
# What the class alone does not tell: a strategy file that is not there, a statement above its limit.
STATUS_BY_CODE = {"not_found": 404, "too_large": 413}
CODE_BY_STATUS = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    429: "too_many_requests",
}


class _Encoder(NinjaJSONEncoder):
    """Writes what an error's fields may hold; anything unknown as its text, so that an error never fails itself."""

    def default(self, o: Any) -> Any:
        try:
            return super().default(o)
        except TypeError:
            return str(o)


def error_response(status: int, code: str, message: str, fields: Mapping[str, Any] | None = None) -> HttpResponse:
    """Return the one error shape, with the headers that its status asks for."""
    body = {"error": {"code": code, "message": message, "fields": dict(fields or {})}}
    response = JsonResponse(body, status=status, encoder=_Encoder, json_dumps_params={"ensure_ascii": False})
    response["Cache-Control"] = "no-store"
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="MATS"'
    if status == 503:
        response["Retry-After"] = RETRY_AFTER_S
    return response


def status_of(error: errors.MatsError) -> int:
    """Return the HTTP status of one of our own errors."""
    by_class = next(STATUS_BY_CLASS[cls] for cls in type(error).__mro__ if cls in STATUS_BY_CLASS)
    return STATUS_BY_CODE.get(error.code, by_class)


def on_mats_error(request: HttpRequest, error: errors.MatsError) -> HttpResponse:
    """Answer one of our own errors in its own words."""
    if isinstance(error, errors.LedgerError):
        logger.error("api_ledger_error path=%r code=%s error=%s", request.path, error.code, error.message)
    return error_response(status_of(error), error.code, error.message, error.fields)


def on_http_error(_request: HttpRequest, error: HttpError) -> HttpResponse:
    """Answer what ninja refuses: no login, a body that is no JSON, too many requests."""
    status = error.status_code
    message = str(error)
    if status == 401 and message == "Unauthorized":
        message = "Log in, or send an API key as «Authorization: Bearer mats_…»."
    if isinstance(error.__cause__, RequestDataTooBig):
        return too_large()
    if status == 400 and error.__cause__ is not None:
        return error_response(400, "bad_json", f"The body is not usable JSON: {error.__cause__}")
    response = error_response(status, CODE_BY_STATUS.get(status, "error"), message)
    if isinstance(error, Throttled) and error.wait is not None:
        response["Retry-After"] = str(error.wait)
    return response


def on_invalid_request(_request: HttpRequest, error: RequestInvalid) -> HttpResponse:
    """Answer values that do not fit, each under its field's name."""
    problems: dict[str, str] = {}
    for item in error.errors:
        source, *rest = [str(part) for part in item["loc"]]
        # A body's first part is the argument's name in our code, which means nothing to the caller.
        name = ".".join(rest[1:] if source == "body" and len(rest) > 1 else rest) or source
        problems[name] = f"{problems[name]}; {item['msg']}" if name in problems else item["msg"]
    named = ", ".join(sorted(problems)[:5])
    return error_response(422, "invalid", f"Some values cannot be used: {named}.", {"errors": problems})


def on_model_invalid(_request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Answer a model's own validation, each message under its field."""
    by_field = error.message_dict if hasattr(error, "error_dict") else {"": error.messages}
    problems = {name: " ".join(texts) for name, texts in by_field.items()}
    return error_response(422, "invalid", " ".join(problems.values()), {"errors": problems})


def on_forbidden(_request: HttpRequest, error: ForbiddenError | PermissionDenied) -> HttpResponse:
    """Answer a known caller who may not do this."""
    code = error.code if isinstance(error, ForbiddenError) else "forbidden"
    return error_response(403, code, str(error) or "You may not do this.")


def on_not_found(request: HttpRequest, _error: Http404) -> HttpResponse:
    """Answer an address that is none."""
    return error_response(404, "not_found", f"There is nothing at {request.path}; see /api/docs.")


def on_bad_request(_request: HttpRequest, error: Exception) -> HttpResponse:
    """Answer a request that Django itself refuses."""
    if isinstance(error, RequestDataTooBig):
        return too_large()
    return error_response(400, "bad_request", "The request cannot be read.")


def too_large(limit: int = MAX_BODY_BYTES) -> HttpResponse:
    """Answer a body above the limit."""
    return error_response(413, "too_large", f"The body is larger than {limit} bytes.", {"max_bytes": limit})


def on_integrity_error(request: HttpRequest, error: IntegrityError) -> HttpResponse:
    """Answer a write that lost against another one, or against a rule of the database."""
    logger.warning("api_integrity_error path=%r error=%s", request.path, error)
    return error_response(409, "conflict", "The database refused this: it contradicts what is stored. Read and retry.")


def on_database_error(request: HttpRequest, error: OperationalError) -> HttpResponse:
    """Answer a database that is busy or away."""
    logger.error("api_database_error path=%r error=%s", request.path, error)
    return error_response(503, "database_unavailable", "The database is busy or away; try again in a moment.")


def on_unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    """Answer a bug: log it under a reference, tell the reference."""
    reference = secrets.token_hex(6)
    logger.error(
        "api_unexpected reference=%s method=%s path=%r", reference, request.method, request.path, exc_info=error
    )
    return error_response(
        500,
        "internal_error",
        f"Something failed that should not; the log has it under reference {reference}.",
        {"reference": reference},
    )


def install(api: NinjaAPI) -> None:
    """Hand every handler to the API."""
    handlers: list[tuple[type[Exception], Callable[..., HttpResponse]]] = [
        (Exception, on_unexpected),
        (errors.MatsError, on_mats_error),
        (HttpError, on_http_error),
        (RequestInvalid, on_invalid_request),
        (ValidationError, on_model_invalid),
        (ForbiddenError, on_forbidden),
        (PermissionDenied, on_forbidden),
        (Http404, on_not_found),
        (SuspiciousOperation, on_bad_request),
        (UnreadablePostError, on_bad_request),
        (IntegrityError, on_integrity_error),
        (OperationalError, on_database_error),
    ]
    for cls, handler in handlers:
        api.add_exception_handler(cls, handler)
