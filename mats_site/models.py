"""Access: API keys, shown once and never stored, and passwords that serve for one login."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class ApiKey(models.Model):
    """One API key. Identity: ``public_id``. The secret half is kept as a peppered HMAC."""

    public_id = models.CharField(max_length=16, unique=True, help_text="First half of the key, not secret.")
    digest = models.CharField(max_length=64, help_text="HMAC-SHA256 of the secret half.")
    name = models.CharField(max_length=80, help_text="What it is for.")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="api_keys",
        help_text="Whose rights it carries.",
    )
    can_write = models.BooleanField(default=False, help_text="May change state; otherwise read only.")
    created_at = models.DateTimeField(auto_now_add=True, help_text="UTC.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="UTC; empty: never.")
    revoked_at = models.DateTimeField(null=True, blank=True, help_text="UTC; empty: in force.")
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="UTC.")

    class Meta:
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"


class OneTimePassword(models.Model):
    """A password that must be changed before anything else is shown. Identity: the user; void once it was changed."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, related_name="+", help_text="Whose."
    )
    fingerprint = models.CharField(
        max_length=64, help_text="HMAC of the stored hash it was made for, not of the password."
    )

    def __str__(self) -> str:
        return f"one-time password of {self.user_id}"
