"""Admin of sessions and scanners: configurations with their history, and what ran, to read.

Rule: every save and deletion goes through ``session_services``, which check and audit; starting and stopping is for the
Sessions page, where the engine answers.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from simple_history.admin import SimpleHistoryAdmin

from portfolio.admin import ReadOnlyAdmin
from strategies.exceptions import MatsError
from trading import session_services
from trading.session_forms import ScannerForm, SessionForm
from trading.session_models import ScannerConfig, ScanRun, SessionConfig, SessionRun


class _ConfigAdmin(SimpleHistoryAdmin):  # type: ignore[misc]  # simple-history ships no types
    """What both kinds of configuration share."""

    actions: tuple[str, ...] = ()

    def _who(self, request: HttpRequest) -> dict[str, str]:
        return {"actor": request.user.get_username(), "source": "admin"}

    def _delete(self, name: str, request: HttpRequest) -> None:
        raise NotImplementedError

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete through the service, or say why not."""
        try:
            self._delete(obj.name, request)
        except MatsError as error:
            messages.set_level(request, messages.ERROR)
            self.message_user(request, error.message, messages.ERROR)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete each through the service."""
        for row in queryset:
            self.delete_model(request, row)


@admin.register(SessionConfig)
class SessionConfigAdmin(_ConfigAdmin):
    """Configurations of sessions."""

    form = SessionForm
    list_display = ("name", "mode", "active", "symbols", "updated_by", "updated_at")
    list_filter = ("active",)
    search_fields = ("name",)
    readonly_fields = ("updated_by", "updated_at")
    actions = ("activate", "deactivate")

    @admin.display(description="mode")
    def mode(self, row: Any) -> str:
        """Show live or backtest."""
        return str(row.config.get("mode", "–")) if isinstance(row.config, dict) else "–"

    @admin.display(description="symbols")
    def symbols(self, row: Any) -> str:
        """Show what it begins with."""
        data = row.config.get("session_data_config") if isinstance(row.config, dict) else None
        found = data.get("symbols") if isinstance(data, dict) else None
        return ", ".join(str(symbol) for symbol in found or ()) or "–"

    def save_model(self, request: HttpRequest, obj: SessionConfig, form: Any, change: bool) -> None:
        """Save through the service."""
        row = session_services.save_session(
            obj.name, obj.config, active=obj.active, pk=obj.pk if change else None, **self._who(request)
        )
        obj.pk, obj.updated_at = row.pk, row.updated_at

    def _delete(self, name: str, request: HttpRequest) -> None:
        session_services.delete_session(name, **self._who(request))

    @admin.action(description="Activate: run by the engine while the market is open", permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[SessionConfig]) -> None:
        """Activate the selected sessions."""
        self._set_active(request, queryset, active=True)

    @admin.action(description="Deactivate: run when asked only", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[SessionConfig]) -> None:
        """Deactivate the selected sessions; what runs goes on."""
        self._set_active(request, queryset, active=False)

    def _set_active(self, request: HttpRequest, queryset: QuerySet[SessionConfig], *, active: bool) -> None:
        for name in queryset.values_list("name", flat=True):
            try:
                session_services.set_session_active(name, active, **self._who(request))
            except MatsError as error:
                self.message_user(request, f"{name}: {error.message}", messages.ERROR)


@admin.register(ScannerConfig)
class ScannerConfigAdmin(_ConfigAdmin):
    """Scanners that are run by hand or by schedule."""

    form = ScannerForm
    list_display = ("name", "module", "schedule", "enabled")
    list_filter = ("enabled",)
    search_fields = ("name", "module")

    def save_model(self, request: HttpRequest, obj: ScannerConfig, form: Any, change: bool) -> None:
        """Save through the service."""
        row = session_services.save_scanner(
            obj.name,
            obj.module,
            obj.config,
            schedule=obj.schedule,
            enabled=obj.enabled,
            pk=obj.pk if change else None,
            **self._who(request),
        )
        obj.pk = row.pk

    def _delete(self, name: str, request: HttpRequest) -> None:
        session_services.delete_scanner(name, **self._who(request))


@admin.register(SessionRun)
class SessionRunAdmin(ReadOnlyAdmin):
    """What sessions said of themselves."""

    list_display = ("started_at", "name", "mode", "phase", "day", "ended_at", "message")
    list_filter = ("mode", "phase")
    search_fields = ("name", "message")


@admin.register(ScanRun)
class ScanRunAdmin(ReadOnlyAdmin):
    """What scans found."""

    list_display = ("at", "scanner", "session", "symbols", "ms", "skipped", "error")
    list_filter = ("skipped",)
    list_select_related = ("session",)
    search_fields = ("scanner",)
