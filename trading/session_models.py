"""What operators set for market sessions: hours, holidays, session configurations, scanners; and what scans found.

Rule: calendars come from ``exchange_calendars``; rows here only override it. Times are local to the exchange.
"""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from simple_history.models import HistoricalRecords

_GROUP = RegexValidator(r"^[A-Z][A-Z0-9_]{1,31}$", "A group such as US_EQUITY: capitals, digits, underscore.")
NAME = RegexValidator(r"^[A-Za-z][A-Za-z0-9_-]{0,63}$", "A name: letters, digits, underscore and hyphen.")


class MarketHours(models.Model):
    """Hours of a group of exchanges that differ from its calendar's, from a day on."""

    group = models.CharField(max_length=32, validators=[_GROUP], help_text="Group of exchanges, such as US_EQUITY.")
    valid_from = models.DateField(help_text="First day, local.")
    valid_to = models.DateField(null=True, blank=True, help_text="Last day, local; empty: without end.")
    regular_open = models.TimeField(help_text="Local time.")
    regular_close = models.TimeField(help_text="Local time, not in the session any more.")
    pre_open = models.TimeField(null=True, blank=True, help_text="Local time; empty: no pre-market.")
    post_close = models.TimeField(null=True, blank=True, help_text="Local time; empty: no post-market.")
    reason = models.CharField(max_length=400, help_text="Why it differs.")
    history = HistoricalRecords()

    class Meta:
        ordering = ["group", "valid_from"]
        verbose_name_plural = "market hours"
        constraints = [models.UniqueConstraint(fields=["group", "valid_from"], name="one_hours_by_day")]

    def __str__(self) -> str:
        return f"{self.group} from {self.valid_from}"

    def clean(self) -> None:
        """Refuse hours that run backwards."""
        times = [self.pre_open, self.regular_open, self.regular_close, self.post_close]
        known = [one for one in times if one is not None]
        if known != sorted(set(known)):
            raise ValidationError("Hours must follow one another: pre-market, open, close, post-market.")
        if self.valid_to is not None and self.valid_from is not None and self.valid_to < self.valid_from:
            raise ValidationError({"valid_to": "The last day comes before the first."})


class Holiday(models.Model):
    """A day on which a group of exchanges is closed, or closes early, against its calendar."""

    group = models.CharField(max_length=32, validators=[_GROUP], help_text="Group of exchanges, such as US_EQUITY.")
    day = models.DateField(help_text="Local day.")
    name = models.CharField(max_length=80, help_text="What it is called.")
    closes_at = models.TimeField(null=True, blank=True, help_text="Local time of an early close; empty: closed.")
    is_open = models.BooleanField(default=False, help_text="Open after all, though the calendar says closed.")
    history = HistoricalRecords()

    class Meta:
        ordering = ["group", "day"]
        constraints = [models.UniqueConstraint(fields=["group", "day"], name="one_holiday_by_day")]

    def __str__(self) -> str:
        return f"{self.group} {self.day} {self.name}"


class SessionConfig(models.Model):
    """A session's configuration, as JSON (``trading.market.session_config`` checks it)."""

    name = models.CharField(max_length=64, unique=True, validators=[NAME], help_text="Name of the session.")
    config = models.JSONField(default=dict, help_text="session_config JSON.")
    active = models.BooleanField(default=False, help_text="Run by the engine while the market is open.")
    updated_by = models.CharField(max_length=150, blank=True, editable=False, help_text="Who saved it last.")
    updated_at = models.DateTimeField(auto_now=True, help_text="UTC.")
    history = HistoricalRecords()

    class Meta:
        ordering = ["name"]
        permissions = [("run_session", "May start, pause and stop sessions")]

    def __str__(self) -> str:
        return self.name


class SessionRun(models.Model):
    """A session under way or past: its phase and its figures, for pages."""

    name = models.CharField(max_length=64, db_index=True, help_text="Name of its configuration or file.")
    mode = models.CharField(max_length=16, help_text="live, clock-driven or data-driven.")
    phase = models.CharField(max_length=24, help_text="Where it stands.")
    day = models.DateField(null=True, help_text="Session day, local.")
    clock_at = models.DateTimeField(null=True, help_text="The session's own present, UTC.")
    metrics = models.JSONField(default=dict, help_text="Quality, lag, queue sizes, overruns, signals.")
    message = models.CharField(max_length=400, blank=True, help_text="For a person.")
    error = models.TextField(blank=True, help_text="Why it failed.")
    process = models.CharField(max_length=80, blank=True, help_text="Host and process that runs it.")
    started_at = models.DateTimeField(help_text="UTC.")
    beat_at = models.DateTimeField(help_text="Last sign of life, UTC.")
    ended_at = models.DateTimeField(null=True, help_text="UTC.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} {self.pk}"


class ScannerConfig(models.Model):
    """A scanner that operators run by hand or by schedule, outside of a session's own."""

    name = models.CharField(max_length=64, unique=True, validators=[NAME], help_text="Name of the scanner.")
    module = models.CharField(max_length=120, help_text="Module of a registered folder, such as scanners.gap.")
    config = models.JSONField(default=dict, blank=True, help_text="Its parameters.")
    schedule = models.CharField(
        max_length=80, blank=True, help_text="Cron expression in exchange time; empty: by hand."
    )
    enabled = models.BooleanField(default=True, help_text="Run by its schedule.")
    history = HistoricalRecords()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class ScanRun(models.Model):
    """One scan: what it found, how long it took, why it was left out or failed."""

    scanner = models.CharField(max_length=120, db_index=True, help_text="Name or module of the scanner.")
    session = models.ForeignKey(
        SessionRun, null=True, on_delete=models.SET_NULL, related_name="scans", help_text="In which session."
    )
    at = models.DateTimeField(help_text="The moment scanned for, UTC.")
    symbols = models.JSONField(default=list, help_text="What it promoted.")
    details = models.JSONField(default=dict, help_text="Figures by symbol.")
    universe = models.PositiveIntegerField(default=0, help_text="How many symbols were looked at.")
    ms = models.FloatField(default=0.0, help_text="Time it took, milliseconds.")
    skipped = models.BooleanField(default=False, help_text="Left out, because the one before was still running.")
    error = models.TextField(blank=True, help_text="Why it failed.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.scanner} {self.at:%Y-%m-%d %H:%M}"
