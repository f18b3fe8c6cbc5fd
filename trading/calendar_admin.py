"""Admin of market hours and holidays: what differs from the exchanges' calendars.

Rule: every save and removal goes through ``calendar_services``, which lays it over the calendar first and audits it;
running sessions take it over at once, other processes within a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from simple_history.admin import SimpleHistoryAdmin

from strategies.exceptions import MatsError
from trading import calendar_services
from trading.session_models import Holiday, MarketHours

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm  # Django's classes are generic in their stubs alone


class CalendarForm(ModelForm):
    """A form whose row fits the calendar that it changes."""

    def clean(self) -> dict[str, Any]:
        """Lay the row over its calendar."""
        cleaned = super().clean() or {}
        if not self.errors:
            row = self._meta.model(**{name: cleaned[name] for name in cleaned})
            try:
                calendar_services.check_row(row)
            except MatsError as error:
                raise forms.ValidationError(error.message) from error
            cleaned["group"] = row.group
        return cleaned


class CalendarAdmin(SimpleHistoryAdmin):  # type: ignore[misc]  # simple-history ships no types
    """What the two have in common."""

    form = CalendarForm
    list_per_page = 50

    def get_actions(self, request: HttpRequest) -> Any:
        """Offer no bulk delete: each removal is an entry of its own."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Store the row with its entry in the audit trail."""
        calendar_services.save_row(obj, actor=request.user.get_username(), source="admin")

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Take the row away."""
        calendar_services.remove_row(obj, actor=request.user.get_username(), source="admin")


@admin.register(MarketHours)
class MarketHoursAdmin(CalendarAdmin):
    """Hours of a group from a day on."""

    list_display = (
        "group",
        "valid_from",
        "valid_to",
        "pre_open",
        "regular_open",
        "regular_close",
        "post_close",
        "reason",
    )
    list_filter = ("group",)
    fields = (
        "group",
        ("valid_from", "valid_to"),
        ("regular_open", "regular_close"),
        ("pre_open", "post_close"),
        "reason",
    )


@admin.register(Holiday)
class HolidayAdmin(CalendarAdmin):
    """Days that are closed, short, or open after all."""

    list_display = ("group", "day", "name", "closes_at", "is_open")
    list_filter = ("group", "is_open")
    date_hierarchy = "day"
    search_fields = ("name",)
    fields = ("group", "day", "name", "closes_at", "is_open")
