"""Admin of strategies: what an operator edits, with the history of who changed what.

Leaves: runtime state, start and stop, which ``trading.admin`` adds.
Rule: every write goes through ``services``; deletion asks the guards first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from simple_history.admin import SimpleHistoryAdmin

from strategies import queries, services
from strategies.api_rules import OPERATE
from strategies.exceptions import LoadError, MatsError
from strategies.forms import StrategyForm
from strategies.history import ChangeWords
from strategies.loader import file_sha256
from strategies.models import Strategy

_REFUSED, _NOTICES = "_refused_growth", "_growth_notices"


class FileStateFilter(admin.SimpleListFilter):
    """Filter by whether the file could be loaded."""

    title = "file"
    parameter_name = "file"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer both states."""
        return [("ok", "Loads"), ("error", "Cannot be loaded")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Strategy]) -> QuerySet[Strategy]:
        """Apply the choice."""
        if self.value() == "ok":
            return queryset.filter(load_error="")
        return queryset.exclude(load_error="") if self.value() == "error" else queryset


@admin.register(Strategy)
class StrategyAdmin(SimpleHistoryAdmin):  # type: ignore[misc]  # simple-history ships no types
    """List, form, history and actions of strategies."""

    form = StrategyForm
    list_display: tuple[str, ...] = ("symbol", "active", "weights", "file_state", "synced")
    list_display_links = ("symbol",)
    list_filter = ("active", FileStateFilter, "restart_policy", "currency")
    search_fields = ("symbol", "name", "description", "filename")
    history_list_display = ("filename", "active")
    readonly_fields = ("kind", "file_state", "code", "synced", "revisions", "created_at", "updated_at")
    actions: tuple[str, ...] = ("activate", "deactivate", "check_files")
    fieldsets = (
        (None, {"fields": ("symbol", "name", "description", "color", "seen_revision")}),
        ("Code", {"fields": ("filename", "file_state", "params")}),
        ("Allocation", {"fields": (("min_weight", "target_weight", "max_weight"), "currency")}),
        ("Running", {"fields": ("active", "restart_policy", "max_restarts_per_hour", "connection")}),
        ("Limits", {"classes": ("collapse",), "fields": ("override",)}),
        (
            "Record",
            {"classes": ("collapse",), "fields": ("kind", "code", "synced", "revisions", "created_at", "updated_at")},
        ),
    )

    # -- columns

    @admin.display(description="weights min · target · max", ordering="target_weight")
    def weights(self, strategy: Strategy) -> str:
        """Show the three fractions."""
        return " · ".join(
            f"{w.normalize():f}" for w in (strategy.min_weight, strategy.target_weight, strategy.max_weight)
        )

    @admin.display(description="file check")
    def file_state(self, strategy: Strategy) -> str:
        """Show whether the file loads, and whether it was edited since."""
        if not strategy.pk:
            return "–"
        if strategy.load_error:
            return format_html("<strong style='color:var(--error-fg)'>✘ {}</strong>", strategy.load_error)
        try:
            edited = file_sha256(strategy.filename) != strategy.code_hash
        except LoadError as error:
            return format_html("<strong style='color:var(--error-fg)'>✘ {}</strong>", error.message)
        if edited:
            return format_html("● {} was edited since it was checked", strategy.filename)
        return format_html("✔ {}", strategy.filename)

    @admin.display(description="ArcticDB")
    def synced(self, strategy: Strategy) -> str:
        """Show whether general/strategies holds this revision."""
        return "synced" if strategy.is_synced else "pending"

    @admin.display(description="code")
    def code(self, strategy: Strategy) -> str:
        """Show the hash of the file as last checked."""
        return strategy.code_hash or "–"

    @admin.display(description="revisions")
    def revisions(self, strategy: Strategy) -> str:
        """Show the counters that orders and the mirror carry."""
        return f"row {strategy.revision}, mirrored {strategy.synced_revision}, parameters {strategy.params_revision}"

    # -- form

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Ask the guards of growth before the form's transaction begins: they may wait for the engine."""
        if request.method == "POST" and object_id and self.has_change_permission(request):
            _note_growth(request, object_id)
        return super().changeform_view(request, object_id, form_url, extra_context)

    def get_form(self, request: HttpRequest, obj: Strategy | None = None, change: bool = False, **kwargs: Any) -> Any:
        """Give the form what the guards refused."""
        form = super().get_form(request, obj, change=change, **kwargs)
        form.refused_growth = getattr(request, _REFUSED, "")
        return form

    def get_readonly_fields(self, request: HttpRequest, obj: Strategy | None = None) -> tuple[str, ...]:
        """Freeze the symbol once it may own fills."""
        return (*self.readonly_fields, "symbol") if obj is not None else tuple(self.readonly_fields)

    def get_fieldsets(self, request: HttpRequest, obj: Strategy | None = None) -> Any:
        """Leave the form's own field out where nothing can be edited."""
        shown = super().get_fieldsets(request, obj)
        if self.has_change_permission(request, obj) or (obj is None and self.has_add_permission(request)):
            return shown
        return [
            (title, {**part, "fields": [f for f in part["fields"] if f != "seen_revision"]})
            for title, part in shown
            if title != "Limits"
        ]

    def save_model(self, request: HttpRequest, obj: Strategy, form: Any, change: bool) -> None:
        """Write through the service, then say what the operator should know."""
        services.write(obj, _author(request), source="admin")
        for text in getattr(request, _NOTICES, ()):
            self.message_user(request, text, messages.INFO)
        total = queries.target_weight_total()
        if total > 1:
            text = f"Target weights add up to {total.normalize():f}: more than the whole account."
            self.message_user(request, text, messages.WARNING)
        if obj.load_error:
            self.message_user(request, f"Saved, but it cannot start: {obj.load_error}", messages.WARNING)

    def get_historical_record_context_helper(self, request: HttpRequest, historical_record: Any) -> ChangeWords:
        """Word changes of parameters one by one."""
        return ChangeWords(self.model, historical_record)

    # -- deletion

    def get_deleted_objects(self, objs: Iterable[Strategy], request: HttpRequest) -> Any:
        """Show what the guards say as objects that forbid the deletion."""
        to_delete, count, needed, protected = super().get_deleted_objects(objs, request)
        reasons = [f"{s.symbol}: {reason}" for s in objs for reason in services.delete_obstacles(s.symbol)]
        return to_delete, count, needed, [*protected, *reasons]

    def delete_model(self, request: HttpRequest, obj: Strategy) -> None:
        """Delete through the service."""
        services.delete_strategy(obj.symbol, _author(request), source="admin")

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Strategy]) -> None:
        """Delete each through the service."""
        for symbol in queryset.values_list("symbol", flat=True):
            services.delete_strategy(symbol, _author(request), source="admin")

    # -- actions

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may operate; actions ask by this name."""
        return bool(request.user.has_perm(OPERATE))

    @admin.action(description="Activate: start with «start all» and with the engine", permissions=["operate"])
    def activate(self, request: HttpRequest, queryset: QuerySet[Strategy]) -> None:
        """Activate the selected strategies."""
        self._set_active(request, queryset, active=True)

    @admin.action(description="Deactivate: leave out of «start all»", permissions=["operate"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[Strategy]) -> None:
        """Deactivate the selected strategies; running ones go on."""
        self._set_active(request, queryset, active=False)

    @admin.action(description="Check the files again", permissions=["change"])
    def check_files(self, request: HttpRequest, queryset: QuerySet[Strategy]) -> None:
        """Load every selected file and record the outcome."""
        for symbol in queryset.values_list("symbol", flat=True):
            strategy = services.revalidate(symbol)
            level = messages.ERROR if strategy.load_error else messages.SUCCESS
            self.message_user(request, f"{symbol}: {strategy.load_error or 'the file loads'}", level)

    def _set_active(self, request: HttpRequest, queryset: QuerySet[Strategy], *, active: bool) -> None:
        word = "activated" if active else "deactivated"
        for symbol in queryset.values_list("symbol", flat=True):
            try:
                saved = services.set_active(symbol, active, _author(request), source="admin")
            except MatsError as error:
                self.message_user(request, error.message, messages.ERROR)
            else:
                self.message_user(request, " ".join([f"{symbol} {word}.", *saved.notices]), messages.SUCCESS)


def _author(request: HttpRequest) -> User | None:
    return request.user if isinstance(request.user, User) else None


def _note_growth(request: HttpRequest, object_id: str) -> None:
    """Keep with the request what the guards say of a posted form: their notices, or why they refuse."""
    symbol = (
        Strategy.objects.filter(pk=object_id).values_list("symbol", flat=True).first() if object_id.isdigit() else None
    )
    posted = {"symbol": symbol or "", "active": "active" in request.POST}
    if "target_weight" in request.POST:
        posted["target_weight"] = request.POST["target_weight"]
    override = str(request.POST.get("override", "")).strip()[:400]
    try:
        growth = services.growth_of(posted, _author(request), source="admin", override=override)
        setattr(request, _NOTICES, services.ask_guards(growth))
    except MatsError as error:
        setattr(request, _REFUSED, error.message)
