"""Admin of the engine: runtime state and commands on strategies, read-only views of what happened.

Owns: start and stop from the admin, always as commands to the engine with their outcome told.
Leaves: what a strategy is (``strategies.admin``), whose money it is (``portfolio``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html

from strategies.admin import StrategyAdmin
from strategies.exceptions import MatsError
from strategies.models import AuditEntry, Strategy
from trading.engine.events import iso, plain
from trading.models import Alert, CommandState, EngineCommand, EngineEvent, EngineLease, Order, OrderEvent, StrategyRun
from trading.queries import engine_state
from trading.services import enqueue, wait_for

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Model]
    TabularInline = admin.TabularInline[OrderEvent, Order]
else:
    ModelAdmin = admin.ModelAdmin  # Django's classes are generic in their stubs alone
    TabularInline = admin.TabularInline

OUTCOME_WAIT_S = 2.0  # for all selected together: the page must come back while a strategy drains
NO_ENGINE = "No engine runs, so nothing was queued. Start one with manage.py run_engine."

admin.site.unregister(Strategy)


@admin.register(Strategy)
class EngineStrategyAdmin(StrategyAdmin):
    """The strategies' admin with what the engine knows."""

    list_display = ("symbol", "state", "active", "weights", "file_state", "synced", "message")
    actions = ("start", "stop", *StrategyAdmin.actions)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Bring the runtime row along."""
        run = StrategyRun.objects.filter(symbol=OuterRef("symbol"))
        return (
            super()
            .get_queryset(request)
            .annotate(run_state=Subquery(run.values("state")[:1]), run_message=Subquery(run.values("message")[:1]))
        )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Say above the list when the states in it are those of an engine that is gone."""
        state = engine_state()
        if not state["running"] and request.method == "GET":
            self.message_user(request, "No engine runs: the states are the last known.", messages.WARNING)
        return super().changelist_view(request, extra_context)

    @admin.display(description="state", ordering="run_state")
    def state(self, strategy: Any) -> str:
        """Show the lifecycle state as the engine last told it."""
        state = strategy.run_state or "stopped"
        mark = {"running": "●", "failed": "✘", "starting": "◐", "stopping": "◑"}.get(state, "○")
        return format_html("{} {}", mark, state)

    @admin.display(description="message")
    def message(self, strategy: Any) -> str:
        """Show the engine's last word about the strategy."""
        return str(strategy.run_message or "")

    @admin.action(description="Start", permissions=["operate"])
    def start(self, request: HttpRequest, queryset: QuerySet[Strategy]) -> None:
        """Ask the engine to start the selected strategies."""
        self._command(request, "start_strategy", queryset)

    @admin.action(description="Stop: no new orders, working ones are waited for", permissions=["operate"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Strategy]) -> None:
        """Ask the engine to stop the selected strategies."""
        self._command(request, "stop_strategy", queryset)

    def _command(self, request: HttpRequest, kind: str, queryset: QuerySet[Strategy]) -> None:
        if not engine_state()["running"]:
            self.message_user(request, NO_ENGINE, messages.ERROR)
            return
        user = request.user if isinstance(request.user, User) else None
        queued = []
        for symbol in queryset.values_list("symbol", flat=True):
            try:
                queued.append((symbol, enqueue(kind, {"symbol": symbol}, user=user, source="admin")))
            except MatsError as error:
                self.message_user(request, f"{symbol}: {error.message}", messages.ERROR)
        deadline = time.monotonic() + OUTCOME_WAIT_S
        for symbol, command in queued:
            outcome = wait_for(command.id, max(0.0, deadline - time.monotonic()))
            self.message_user(request, *_told(symbol, outcome))


def _told(symbol: str, command: EngineCommand) -> tuple[str, int]:
    words = command.kind.removesuffix("_strategy")
    if command.state == CommandState.DONE:
        note = command.result.get("note", "") if isinstance(command.result, dict) else ""
        return f"{symbol}: {words} done. {note}".rstrip(), messages.SUCCESS
    if command.state in (CommandState.FAILED, CommandState.EXPIRED):
        return f"{symbol}: {words} {command.state}: {command.error or 'no engine took it in time'}", messages.ERROR
    return f"{symbol}: {words} {command.state}; its outcome will stand in the list of commands.", messages.INFO


class ReadOnlyAdmin(ModelAdmin):
    """Rows that only the engine writes."""

    list_per_page = 50
    show_full_result_count = False  # these tables grow long; a second count per page is not worth it

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes by hand."""
        return False


class OrderEventInline(TabularInline):
    """What happened to an order, in order."""

    model = OrderEvent
    fields = readonly_fields = ("moment", "state", "ib_status", "filled_plain", "remaining_plain", "message")
    extra = 0
    can_delete = False

    @admin.display(description="at (UTC)")
    def moment(self, event: OrderEvent) -> str | None:
        """Show the time to the millisecond: events of one order lie close together."""
        return iso(event.at)

    @admin.display(description="filled")
    def filled_plain(self, event: OrderEvent) -> str | None:
        """Show the quantity without trailing zeros."""
        return plain(event.filled)

    @admin.display(description="remaining")
    def remaining_plain(self, event: OrderEvent) -> str | None:
        """Show the quantity without trailing zeros."""
        return plain(event.remaining)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Events are written by the engine."""
        return False


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    """Orders with their events."""

    list_display = ("order_ref", "wish", "state", "filled_plain", "price", "moment", "reason")
    list_filter = ("state", "owner", "order_type", "side")
    search_fields = ("order_ref", "symbol", "=perm_id", "owner")
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    inlines = [OrderEventInline]

    @admin.display(description="order")
    def wish(self, order: Any) -> str:
        """Show side, quantity, instrument and type in one line."""
        prices = [f"{word} {plain(p)}" for word, p in (("at", order.limit_price), ("stop", order.stop_price)) if p]
        return " ".join([order.side, plain(order.quantity) or "", order.symbol, order.order_type, *prices])

    @admin.display(description="filled")
    def filled_plain(self, order: Any) -> str | None:
        """Show the quantity without trailing zeros."""
        return plain(order.filled)

    @admin.display(description="average price")
    def price(self, order: Any) -> str | None:
        """Show the price without trailing zeros."""
        return plain(order.average_price)

    @admin.display(description="created (UTC)", ordering="created_at")
    def moment(self, order: Any) -> str | None:
        """Show the time of the intent."""
        return iso(order.created_at)


@admin.register(EngineCommand)
class EngineCommandAdmin(ReadOnlyAdmin):
    """What was asked of the engine, by whom, and how it ended."""

    list_display = ("created_at", "kind", "args", "state", "error", "user", "source", "accepted_at", "finished_at")
    list_filter = ("state", "kind", "source")
    list_select_related = ("user",)
    search_fields = ("kind", "error", "error_code")
    date_hierarchy = "created_at"
    ordering = ("-created_at",)


@admin.register(EngineEvent)
class EngineEventAdmin(ReadOnlyAdmin):
    """What the pages were told."""

    list_display = ("id", "at", "kind", "strategy", "payload")
    list_filter = ("kind",)
    search_fields = ("strategy",)
    ordering = ("-id",)


@admin.register(StrategyRun)
class StrategyRunAdmin(ReadOnlyAdmin):
    """Runtime state of each strategy, with the traceback of its last failure."""

    list_display = ("symbol", "state", "client_id", "connected", "message", "started_at", "heartbeat_at", "restarts")
    list_filter = ("state", "connected")
    search_fields = ("symbol", "message")


@admin.register(EngineLease)
class EngineLeaseAdmin(ReadOnlyAdmin):
    """Who holds the right to write, and its last heartbeat."""

    list_display = ("name", "epoch", "holder", "heartbeat_at", "expires_at")


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """What a person should see, open or over."""

    list_display = ("opened_at", "severity", "title", "strategy", "times", "last_at", "acknowledged_by", "cleared_at")
    list_filter = ("severity", ("cleared_at", admin.EmptyFieldListFilter))
    search_fields = ("key", "title", "text")
    ordering = ("-id",)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """Who did what, and why."""

    list_display = ("at", "actor", "source", "action", "subject", "reason")
    list_filter = ("action", "source", "at")
    search_fields = ("actor", "subject", "reason", "hash")
    ordering = ("-id",)


from trading import calendar_admin, risk_admin, session_admin  # noqa: E402, F401 - register with the site
