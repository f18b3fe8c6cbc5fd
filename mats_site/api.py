"""The REST API under /api: one NinjaAPI, the routers of the apps, default authentication, one shape of errors.

Owns: mounting, and what holds for every address below /api (size limit, JSON also for 404 and 405, who sees the docs).
Leaves: routes to the apps, authentication to ``api_auth``, errors to ``api_errors``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, re_path
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, Throttled
from ninja.openapi.docs import ABS_TPL_PATH, Swagger
from ninja.openapi.schema import OpenAPISchema
from ninja.renderers import JSONRenderer

from mats_site import api_errors
from mats_site.api_auth import ForbiddenError, default_auth
from mats_site.api_parser import MAX_BODY_BYTES, StrictParser
from portfolio.api import router as portfolio_router
from portfolio.arctic_api import router as arctic_router
from portfolio.books_api import router as books_router
from strategies.api import router as strategies_router
from strategies.schemas import ErrorOut
from trading import books_api
from trading.api import command_router, connection_router, engine_router, market_router, trade_router
from trading.backtest_api import router as backtest_router
from trading.check_api import router as check_router
from trading.data_api import router as data_router
from trading.risk_api import router as risk_router
from trading.session_api import scanner_router, sessions_router
from trading.strategies_api import router as strategy_engine_router
from trading.study_api import router as study_router
from trading.uploads import MAX_STATEMENT_BYTES

View = Callable[..., HttpResponse]
UPLOAD_PATH = "/api/portfolio/flex"

DESCRIPTION = """
Send an API key as `Authorization: Bearer mats_…` (or `X-API-Key`), or use the console's session with `X-CSRFToken`.
Reading needs a login; changing needs the operator role, and a key made with `--write`.

What the engine must do is queued: the answer is 202 with `command_id` and `status_url`; read the outcome there.
An `Idempotency-Key` header makes repeating such a request safe. Decimals are text, times ISO 8601 in UTC.
Errors: `{"error": {"code", "message", "fields"}}`.
"""


class MatsApi(NinjaAPI):
    """Ninja's API whose schema also names the one shape of errors."""

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        """Return the schema with the error shape as every operation's default answer."""
        schema = super().get_openapi_schema(**options)
        schema["components"]["schemas"] |= _error_schemas()
        answer = {
            "description": "Any error",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorOut"}}},
        }
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"]["default"] = answer
        return schema


def _error_schemas() -> dict[str, Any]:
    schema = ErrorOut.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = schema.pop("$defs")
    return {**parts, "ErrorOut": schema}


class _Utf8Renderer(JSONRenderer):
    """JSON as people write it, without escaping every letter beyond ASCII."""

    json_dumps_params = {"ensure_ascii": False}


class _OwnSwagger(Swagger):
    """The documentation page with scripts of this server: ninja takes a stranger's when it is no installed app."""

    template_cdn = str(ABS_TPL_PATH / "swagger.html")


def _docs_for_known_callers(view: View) -> View:
    """Show documentation and schema to logged-in users and keys; send people to the login page."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            known = any(check(request) for check in default_auth())
        except (AuthenticationError, ForbiddenError, Throttled):
            known = False
        if known:
            return view(request, *args, **kwargs)
        if request.path.endswith(".json"):
            return api_errors.on_http_error(request, AuthenticationError())
        return redirect_to_login(request.get_full_path())

    return guarded


def build_api() -> NinjaAPI:
    """Return the API with every router mounted."""
    api = MatsApi(
        title="MATS",
        version="1",
        description=DESCRIPTION,
        urls_namespace="api",
        auth=default_auth(),
        parser=StrictParser(),
        renderer=_Utf8Renderer(),
        docs=_OwnSwagger(),
        docs_decorator=_docs_for_known_callers,
    )
    api_errors.install(api)
    api.add_router("/strategies", strategies_router, tags=["strategies"])
    api.add_router("/strategies", strategy_engine_router, tags=["strategies"])
    api.add_router("/strategies", books_api.strategy_router, tags=["strategies"])
    api.add_router("/portfolio", portfolio_router, tags=["portfolio"])
    api.add_router("/portfolio", books_router, tags=["portfolio"])
    api.add_router("/connection", connection_router, tags=["connection"])
    api.add_router("/trade", trade_router, tags=["trade"])
    api.add_router("/engine", engine_router, tags=["engine"])
    api.add_router("/commands", command_router, tags=["commands"])
    api.add_router("/market", market_router, tags=["market"])
    api.add_router("/arctic", arctic_router, tags=["arctic"])
    api.add_router("/data", data_router, tags=["data"])
    api.add_router("/backtest", backtest_router, tags=["backtest"])
    api.add_router("/backtest", check_router, tags=["backtest"])
    api.add_router("/backtest", study_router, tags=["backtest"])
    api.add_router("/risk", risk_router, tags=["risk"])
    api.add_router("/sessions", sessions_router, tags=["sessions"])
    api.add_router("/scanner", scanner_router, tags=["scanner"])
    api.add_router("/alerts", books_api.alert_router, tags=["alerts"])
    api.add_router("/audit", books_api.audit_router, tags=["audit"])
    return api


def _guard(view: View) -> View:
    """Hold for every address what ninja leaves to Django's HTML pages."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        limit = _limit(request)
        if _declared_length(request) > limit:
            return api_errors.too_large(limit)
        try:
            response = view(request, *args, **kwargs)
        except Http404 as error:
            return api_errors.on_not_found(request, error)
        response.headers.setdefault("Cache-Control", "no-store")
        if response.status_code != 405:
            return response
        allowed = response.headers.get("Allow", "")
        refused = api_errors.error_response(
            405, "method_not_allowed", f"{request.path} answers {allowed}, not {request.method}.", {"allowed": allowed}
        )
        refused["Allow"] = allowed
        return refused

    guarded.csrf_exempt = True  # type: ignore[attr-defined]  # session callers are checked in api_auth
    return guarded


def _limit(request: HttpRequest) -> int:
    """Return how long a body may be; the parts around an uploaded file take some of it too."""
    is_upload = request.path == UPLOAD_PATH and (request.content_type or "").startswith("multipart/")
    return MAX_STATEMENT_BYTES + MAX_BODY_BYTES if is_upload else MAX_BODY_BYTES


def _declared_length(request: HttpRequest) -> int:
    text = request.META.get("CONTENT_LENGTH") or "0"
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _nothing_here(_request: HttpRequest) -> HttpResponse:
    raise Http404


def _guarded_urls(api: NinjaAPI) -> tuple[list[URLPattern], str, str]:
    found, app_name, namespace = api.urls
    patterns = cast(list[URLPattern], found)  # ninja's routers hold no nested resolvers
    for pattern in patterns:
        pattern.callback = _guard(cast(View, pattern.callback))
    return [*patterns, re_path(r"", _guard(_nothing_here))], app_name, namespace


api = build_api()
api_urls = _guarded_urls(api)
