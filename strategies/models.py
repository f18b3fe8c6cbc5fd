"""Strategy metadata: what the operator edits, with the history of every change.

Identity: ``symbol``. Lifetime: kept for ever once it owns executions (``active`` and deletion guards, see services).
Single writer: ``strategies.services``.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from simple_history.models import HistoricalRecords

STRATEGY_SYMBOL_PATTERN = r"^[A-Za-z][A-Za-z0-9_]{0,31}$"
FILENAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,63}\.py$"
CURRENCY_PATTERN = r"^[A-Z]{3}$"
DISCRETIONARY = "Discretionary"

_FRACTION = [MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(1))]


class StrategyKind(models.TextChoices):
    """Which contract the strategy's class fulfils."""

    IMPERATIVE = "imperative", "Imperative (own thread and loop)"
    REACTIVE = "reactive", "Reactive (bar-driven)"


class RestartPolicy(models.TextChoices):
    """What the engine does after the strategy failed."""

    NEVER = "never", "Never"
    ON_FAILURE = "on_failure", "After a failure"


class ConnectionKind(models.TextChoices):
    """How a strategy reaches IB."""

    OWN = "own", "Its own"
    SHARED = "shared", "Shared with others"


class Strategy(models.Model):
    """One strategy as the operator configures it; runtime state lives in ``trading.StrategyRun``."""

    symbol = models.CharField(
        max_length=32,
        unique=True,
        validators=[RegexValidator(STRATEGY_SYMBOL_PATTERN)],
        help_text="Name that owns fills and cash; letters, digits and underscore, never changed afterwards.",
    )
    name = models.CharField(max_length=80, blank=True, help_text="Display name; the symbol when empty.")
    description = models.TextField(blank=True, help_text="What it does and on what idea.")
    color = models.CharField(
        max_length=7,
        blank=True,
        validators=[RegexValidator(r"^#[0-9a-fA-F]{6}$")],
        help_text="Colour on charts, #rrggbb.",
    )
    filename = models.CharField(
        max_length=67,
        validators=[RegexValidator(FILENAME_PATTERN, "A file name such as ma_cross.py, no path.")],
        help_text="Python file inside a registered strategy folder.",
    )
    kind = models.CharField(
        max_length=10,
        choices=StrategyKind.choices,
        default=StrategyKind.IMPERATIVE,
        editable=False,
        help_text="Told from the file's base class.",
    )
    active = models.BooleanField(default=False, help_text="Started by «start all» and when the engine starts.")
    min_weight = models.DecimalField(
        max_digits=7,
        decimal_places=6,
        default=Decimal(0),
        validators=_FRACTION,
        help_text="Lower bound of the allocation, fraction of the account (0–1).",
    )
    target_weight = models.DecimalField(
        max_digits=7,
        decimal_places=6,
        default=Decimal(0),
        validators=_FRACTION,
        help_text="Target allocation, fraction of the account (0–1).",
    )
    max_weight = models.DecimalField(
        max_digits=7,
        decimal_places=6,
        default=Decimal(1),
        validators=_FRACTION,
        help_text="Upper bound of the allocation, fraction of the account (0–1).",
    )
    currency = models.CharField(
        max_length=3,
        default="USD",
        validators=[RegexValidator(CURRENCY_PATTERN)],
        help_text="Currency the strategy is allocated and measured in, ISO 4217.",
    )
    params = models.JSONField(default=dict, blank=True, help_text="Parameters; empty means the file's PARAMS.")
    params_revision = models.PositiveIntegerField(
        default=0, editable=False, help_text="Counts parameter changes; orders carry it."
    )
    code_hash = models.CharField(
        max_length=64, blank=True, editable=False, help_text="SHA-256 of the file that was last validated."
    )
    load_error = models.TextField(
        blank=True, editable=False, help_text="Why the file cannot be loaded; empty when it can."
    )
    restart_policy = models.CharField(
        max_length=10,
        choices=RestartPolicy.choices,
        default=RestartPolicy.ON_FAILURE,
        help_text="What the engine does after the strategy failed.",
    )
    max_restarts_per_hour = models.PositiveSmallIntegerField(
        default=3, help_text="Restarts allowed in any hour before the strategy stays down."
    )
    connection = models.CharField(
        max_length=6,
        choices=ConnectionKind.choices,
        default=ConnectionKind.OWN,
        help_text="An own IB connection, or one of the engine's that several strategies share (IB accepts 32).",
    )
    revision = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="Counts saves; compared by the sync."
    )
    synced_revision = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="The revision that ArcticDB general/strategies holds."
    )
    created_at = models.DateTimeField(auto_now_add=True, help_text="UTC.")
    updated_at = models.DateTimeField(auto_now=True, help_text="UTC.")
    history = HistoricalRecords(excluded_fields=["synced_revision", "revision", "updated_at"])
    notices: Sequence[str] = ()  # what the guards of its last save said to the operator; not stored

    class Meta:
        ordering = ["symbol"]
        verbose_name_plural = "strategies"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(min_weight__lte=models.F("target_weight"))
                & models.Q(target_weight__lte=models.F("max_weight"))
                & models.Q(min_weight__gte=0)
                & models.Q(max_weight__lte=1),
                name="strategy_weights_ordered",
            ),
            models.CheckConstraint(
                condition=~models.Q(symbol__iexact=DISCRETIONARY), name="strategy_not_discretionary"
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.symbol

    def clean(self) -> None:
        """Check what fields cannot check alone; each message stands beside the field to change."""
        errors: dict[str, str] = {}
        if self.symbol.casefold() == DISCRETIONARY.casefold():
            errors["symbol"] = f"{DISCRETIONARY} is the owner of manual trades; choose another name."
        if not isinstance(self.params, dict):
            errors["params"] = 'Parameters are an object: {"name": value}.'
        weights = (self.min_weight, self.target_weight, self.max_weight)
        if all(isinstance(weight, Decimal) for weight in weights):
            if self.min_weight > self.target_weight:
                errors["min_weight"] = f"The minimum may not exceed the target ({self.target_weight:f})."
            if self.target_weight > self.max_weight:
                errors["max_weight"] = f"The maximum may not be below the target ({self.target_weight:f})."
        if errors:
            raise ValidationError(errors)

    @property
    def is_synced(self) -> bool:
        """Whether ArcticDB holds this revision."""
        return self.synced_revision == self.revision


class AuditEntry(models.Model):
    """One action of a person or of MATS on money, strategies or the engine. Append-only, a hash chain.

    ``hash`` covers every other column and ``previous_hash``; a row that was altered or taken out breaks the chain.
    """

    at = models.DateTimeField(help_text="UTC.")
    actor = models.CharField(max_length=150, help_text="User name, or the part of MATS that did it.")
    source = models.CharField(max_length=16, help_text="page, api, admin, cli, engine, flex or schedule.")
    action = models.CharField(max_length=40, help_text="What was done, for example adjustment.booked.")
    subject = models.CharField(max_length=160, help_text="To what, for example a strategy or an execution.")
    reason = models.CharField(max_length=400, blank=True, help_text="Why, in the words of who did it.")
    before = models.JSONField(null=True, help_text="What stood before, where it applies.")
    after = models.JSONField(null=True, help_text="What stands now.")
    previous_hash = models.CharField(
        max_length=64, unique=True, help_text="Of the entry before: the chain cannot fork."
    )
    hash = models.CharField(max_length=64, unique=True, help_text="SHA-256 of this entry.")

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.action}:{self.subject}"
