"""Admin of limits, overrides and locks: every save goes through the services, which check and audit.

Rule: a change needs the right to manage risk and a reason; states are changed on the Risk page, where buttons say what
they do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from simple_history.admin import SimpleHistoryAdmin

from portfolio.admin import ReadOnlyAdmin
from strategies.exceptions import MatsError
from strategies.models import DISCRETIONARY, Strategy
from trading import risk_services
from trading.risk_models import DeadManRun, MarginReading, RiskLimit, RiskLock, RiskOverride, TradingControl

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    ModelForm = forms.ModelForm[Any]
else:
    ModelAdmin = admin.ModelAdmin  # Django's classes are generic in their stubs alone
    ModelForm = forms.ModelForm


class ScopeForm(ModelForm):
    """A form whose strategy is one that exists; the rest is checked by the model."""

    def clean_strategy(self) -> str:
        """Return the strategy as it is written in its row."""
        given = str(self.cleaned_data.get("strategy") or "")
        if given in ("", DISCRETIONARY):
            return given
        found = Strategy.objects.filter(symbol__iexact=given).values_list("symbol", flat=True).first()
        if found is None:
            raise forms.ValidationError(f"There is no strategy {given!r}.")
        return found


class RiskAdmin(ModelAdmin):
    """What the three have in common."""

    form = ScopeForm

    def _who(self, request: HttpRequest) -> dict[str, str]:
        return {"actor": request.user.get_username(), "source": "admin"}

    def get_actions(self, request: HttpRequest) -> Any:
        """Offer no bulk delete: each removal is an entry of its own."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def _refuse(self, request: HttpRequest, error: MatsError) -> None:
        self.message_user(request, error.message, messages.ERROR)


@admin.register(RiskLimit)
class RiskLimitAdmin(RiskAdmin, SimpleHistoryAdmin):  # type: ignore[misc]  # simple-history ships no types
    """Limits; one for each name and scope."""

    list_display = ("name", "value", "scope", "strategy", "con_id", "set_by", "since", "reason")
    list_filter = ("name", "strategy")
    fields = ("name", "value", "strategy", "con_id", "reason")

    def save_model(self, request: HttpRequest, obj: RiskLimit, form: Any, change: bool) -> None:
        """Set the limit; a row that moved to another scope leaves its old one."""
        before = RiskLimit.objects.filter(pk=obj.pk).first() if change else None
        row = risk_services.set_limit(
            obj.name, obj.value, strategy=obj.strategy, con_id=obj.con_id, reason=obj.reason, **self._who(request)
        )
        if before is not None and before.pk != row.pk:
            risk_services.remove_limit(before.pk, reason=obj.reason, **self._who(request))
        obj.pk, obj.set_by, obj.since = row.pk, row.set_by, row.since

    def delete_model(self, request: HttpRequest, obj: RiskLimit) -> None:
        """Take the limit away."""
        risk_services.remove_limit(obj.pk, reason="removed in the admin", **self._who(request))


@admin.register(RiskOverride)
class RiskOverrideAdmin(RiskAdmin, SimpleHistoryAdmin):  # type: ignore[misc]  # simple-history ships no types
    """Overrides; one for each scope."""

    list_display = ("action", "multiplier", "strategy", "con_id", "set_by", "since", "reason")
    fields = ("action", "multiplier", "strategy", "con_id", "reason")

    def save_model(self, request: HttpRequest, obj: RiskOverride, form: Any, change: bool) -> None:
        """Set the override; a row that moved to another scope leaves its old one."""
        before = RiskOverride.objects.filter(pk=obj.pk).first() if change else None
        row = risk_services.set_override(
            obj.action,
            multiplier=obj.multiplier,
            strategy=obj.strategy,
            con_id=obj.con_id,
            reason=obj.reason,
            **self._who(request),
        )
        if before is not None and before.pk != row.pk:
            risk_services.remove_override(before.pk, reason=obj.reason, **self._who(request))
        obj.pk, obj.set_by, obj.since = row.pk, row.set_by, row.since

    def delete_model(self, request: HttpRequest, obj: RiskOverride) -> None:
        """Take the override away."""
        risk_services.remove_override(obj.pk, reason="removed in the admin", **self._who(request))


@admin.register(RiskLock)
class RiskLockAdmin(RiskAdmin):
    """Locks: made and released, never edited or deleted."""

    list_display = ("strategy", "con_id", "until", "reason", "set_by", "since", "released_at", "released_by")
    fields = ("strategy", "con_id", "until", "reason")
    actions = ("release",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A lock is released, not edited."""
        return obj is None and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A lock stays on record."""
        return False

    def save_model(self, request: HttpRequest, obj: RiskLock, form: Any, change: bool) -> None:
        """Set the lock."""
        try:
            row = risk_services.set_lock(
                strategy=obj.strategy, con_id=obj.con_id, until=obj.until, reason=obj.reason, **self._who(request)
            )
        except MatsError as error:
            self._refuse(request, error)
            return
        obj.pk, obj.set_by, obj.since = row.pk, row.set_by, row.since

    @admin.action(description="Release", permissions=["change"])
    def release(self, request: HttpRequest, queryset: Any) -> None:
        """Release the selected locks."""
        for row in queryset.filter(released_at=None):
            risk_services.release_lock(row.pk, reason="released in the admin", **self._who(request))


@admin.register(TradingControl)
class TradingControlAdmin(ReadOnlyAdmin):
    """Trading states, to read; the Risk page changes them."""

    list_display = ("owner", "state", "reason", "set_by", "since", "enabled_at")


@admin.register(DeadManRun)
class DeadManRunAdmin(ReadOnlyAdmin):
    """What the dead-man switch did."""

    list_display = ("at", "drill", "action", "silent_s", "done_s", "left_orders", "left_positions", "text")


@admin.register(MarginReading)
class MarginReadingAdmin(ReadOnlyAdmin):
    """Whose margin the account's is."""

    list_display = ("account_id", "at", "currency", "initial", "maintenance", "problem")
