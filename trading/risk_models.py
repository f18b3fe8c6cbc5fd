"""What people decide about risk: limits, overrides, locks, trading states; and drills of the dead-man switch.

Single writer: ``trading.risk_services``, which audits. ``RiskRevision`` grows with every change, so that the engine
notices one within a fraction of a second by reading one number.
"""

from __future__ import annotations

from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from simple_history.models import HistoricalRecords

from trading.orders.limits import SPECS, problem_with, scope_of
from trading.orders.trading_state import OverrideAction, TradingState

_STRATEGY = "Strategy that it concerns; empty: all."
_CONTRACT = "IB's contract id that it concerns; 0: all."


class RiskLimit(models.Model):
    """One limit, for the account, a strategy, an instrument or a strategy in an instrument. The tightest holds."""

    name = models.CharField(max_length=32, choices=[(name, name) for name in SPECS], help_text="Which limit.")
    value = models.DecimalField(
        max_digits=28, decimal_places=10, help_text="In the limit's unit; fractions: 0.05 is 5 %."
    )
    strategy = models.CharField(max_length=32, blank=True, help_text=_STRATEGY)
    con_id = models.BigIntegerField(default=0, validators=[MinValueValidator(0)], help_text=_CONTRACT)
    reason = models.CharField(max_length=400, help_text="Why, in the words of who set it.")
    set_by = models.CharField(max_length=150, editable=False, help_text="Who set it.")
    since = models.DateTimeField(editable=False, help_text="UTC.")
    history = HistoricalRecords()

    class Meta:
        ordering = ["name", "strategy", "con_id"]
        permissions = [("manage_risk", "May set limits and release what is halted")]
        constraints = [models.UniqueConstraint(fields=["name", "strategy", "con_id"], name="one_limit_by_scope")]

    def __str__(self) -> str:
        return f"{self.name}={self.value.normalize():f} ({self.scope})"

    @property
    def scope(self) -> str:
        """Name what the limit is set for."""
        return scope_of(self.strategy, self.con_id)

    def clean(self) -> None:
        """Refuse a value or a scope that the limit cannot have."""
        value: object = self.value  # a field that is no number left None
        if not isinstance(value, Decimal):
            return
        if problem := problem_with(self.name, value, scope_of(self.strategy, self.con_id or 0)):
            raise ValidationError({"value": problem})


class RiskOverride(models.Model):
    """What a person makes of the positions that strategies want; holds until it is removed."""

    action = models.CharField(
        max_length=12, choices=[(one.value, one.value.replace("_", " ")) for one in OverrideAction], help_text="What."
    )
    multiplier = models.DecimalField(
        max_digits=7,
        decimal_places=6,
        default=Decimal(1),
        validators=[MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(1))],
        help_text="For «multiplier»: 0 to 1 of the position that is wanted, truncated.",
    )
    strategy = models.CharField(max_length=32, blank=True, help_text=_STRATEGY)
    con_id = models.BigIntegerField(default=0, validators=[MinValueValidator(0)], help_text=_CONTRACT)
    reason = models.CharField(max_length=400, help_text="Why, in the words of who set it.")
    set_by = models.CharField(max_length=150, editable=False, help_text="Who set it.")
    since = models.DateTimeField(editable=False, help_text="UTC.")
    history = HistoricalRecords()

    class Meta:
        ordering = ["strategy", "con_id", "id"]

    def __str__(self) -> str:
        return f"{self.action} ({scope_of(self.strategy, self.con_id)})"


class RiskLock(models.Model):
    """Nothing is opened until it is released or its time is over; reductions pass. Kept as a record afterwards."""

    strategy = models.CharField(max_length=32, blank=True, help_text=_STRATEGY)
    con_id = models.BigIntegerField(default=0, validators=[MinValueValidator(0)], help_text=_CONTRACT)
    until = models.DateTimeField(null=True, blank=True, help_text="UTC; empty: until somebody releases it.")
    reason = models.CharField(max_length=400, help_text="Why, in the words of who set it.")
    set_by = models.CharField(max_length=150, editable=False, help_text="Who set it.")
    since = models.DateTimeField(editable=False, help_text="UTC.")
    released_at = models.DateTimeField(null=True, editable=False, help_text="UTC.")
    released_by = models.CharField(max_length=150, blank=True, editable=False, help_text="Who released it.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"lock ({scope_of(self.strategy, self.con_id)})"


class TradingControl(models.Model):
    """The trading state of the account (owner empty) or of one strategy; no row means ACTIVE."""

    owner = models.CharField(max_length=32, primary_key=True, help_text="Strategy symbol; empty: the account.")
    state = models.CharField(
        max_length=8, choices=[(one.value, one.value) for one in TradingState], help_text="What may be sent."
    )
    reason = models.CharField(max_length=400, blank=True, help_text="Why, in the words of who set it.")
    set_by = models.CharField(max_length=150, help_text="User name, or the part of MATS that did it.")
    since = models.DateTimeField(help_text="UTC.")
    enabled_at = models.DateTimeField(null=True, help_text="Last release, UTC; the day's orders count from there.")

    def __str__(self) -> str:
        return f"{self.owner or 'account'}:{self.state}"


class RiskRevision(models.Model):
    """Counts changes of everything above. One row."""

    name = models.CharField(max_length=8, primary_key=True, default="risk", help_text="Always «risk».")
    revision = models.PositiveBigIntegerField(default=0, help_text="Grows with every change.")

    def __str__(self) -> str:
        return f"revision {self.revision}"


class DeadManRun(models.Model):
    """One time that the dead-man switch acted, or practised."""

    at = models.DateTimeField(help_text="When it began, UTC.")
    drill = models.BooleanField(default=False, help_text="Practised on purpose.")
    action = models.CharField(max_length=16, help_text="alert, cancel or flatten.")
    silent_s = models.FloatField(help_text="How long the engine had been silent, in seconds.")
    done_s = models.FloatField(
        null=True, help_text="From the beginning until nothing was left, seconds; null: not done."
    )
    left_orders = models.PositiveIntegerField(default=0, help_text="Working orders that were left.")
    left_positions = models.PositiveIntegerField(default=0, help_text="Positions that were left.")
    text = models.CharField(max_length=400, blank=True, help_text="What was done, for a person.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.action} {self.at:%Y-%m-%d %H:%M}"


class MarginReading(models.Model):
    """Whose margin the account's margin is, as it was read from IB's answers. One row an account; writer: the engine.

    Shape: decimals in the lists are text in the account's base currency; null is not known. The parts of ``owners`` add
    up to ``initial`` and ``maintenance``.
    """

    account_id = models.CharField(max_length=32, primary_key=True, help_text="IB account.")
    currency = models.CharField(max_length=3, help_text="Base currency, of every figure.")
    at = models.DateTimeField(help_text="When it was read, UTC.")
    initial = models.DecimalField(max_digits=28, decimal_places=10, null=True, help_text="IB's InitMarginReq.")
    maintenance = models.DecimalField(max_digits=28, decimal_places=10, null=True, help_text="IB's MaintMarginReq.")
    owners = models.JSONField(default=list, help_text="Of each owner: owner, initial, maintenance.")
    contracts = models.JSONField(
        default=list, help_text="What closing each would release: con_id, symbol, quantity, initial, maintenance."
    )
    problem = models.CharField(max_length=400, blank=True, help_text="Why a part is not known, or the last try failed.")

    def __str__(self) -> str:
        return f"{self.account_id}@{self.at:%Y-%m-%dT%H:%M:%SZ}"
