"""Admin of API keys: see and revoke. Keys are made on the command line, where they can be shown once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from mats_site.models import ApiKey
from mats_site.services import is_in_force, revoke_api_keys

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[ApiKey]
else:
    ModelAdmin = admin.ModelAdmin  # Django's class is generic in its stubs alone

SHOWN = ("name", "public_id", "user", "can_write", "in_force", "created_at", "expires_at", "revoked_at", "last_used_at")


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    """Read-only rows, without the digest; one action."""

    list_display = ["name", "public_id", "user", "can_write", "in_force", "expires_at", "last_used_at"]
    list_filter = ["can_write", "user"]
    list_select_related = ["user"]
    search_fields = ["name", "public_id", "user__username"]
    fields = SHOWN
    readonly_fields = SHOWN
    actions = ["revoke"]

    @admin.display(boolean=True, description="in force")
    def in_force(self, key: ApiKey) -> bool:
        """Whether the key is accepted now."""
        return is_in_force(key, timezone.now())

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Revoke what is in force; say how many."""
        count = revoke_api_keys(queryset, by=request.user.get_username())
        self.message_user(request, f"{count} key(s) revoked.", messages.SUCCESS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Keys are made by `manage.py create_api_key`, which shows them once."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Revoked keys stay: they say who could do what."""
        return False
