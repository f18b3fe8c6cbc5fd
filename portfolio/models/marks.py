"""Prices, exchange rates and equity over time."""

from __future__ import annotations

from django.db import models

from portfolio.fields import ExactDecimalField
from portfolio.models.accounts import Account, Instrument


class Mark(models.Model):
    """Latest price of an instrument. Writer: the engine, at most once a second each."""

    instrument = models.OneToOneField(
        Instrument, primary_key=True, on_delete=models.CASCADE, help_text="What is priced."
    )
    price = ExactDecimalField(max_digits=28, decimal_places=10, help_text="Instrument currency.")
    marked_at = models.DateTimeField(help_text="UTC; older marks are shown as stale.")
    silent_since = models.DateTimeField(
        null=True, help_text="UTC; since when no price comes although the market is open: then the mark does not stand."
    )

    def __str__(self) -> str:
        return f"{self.instrument_id}@{self.price}"


class EquitySnapshot(models.Model):
    """Equity of an owner, or of the whole account (owner empty), at one moment. Thinned with age."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, help_text="Account.")
    owner = models.CharField(
        max_length=32, blank=True, help_text="Strategy symbol, Discretionary, or empty: the account."
    )
    taken_at = models.DateTimeField(db_index=True, help_text="UTC.")
    currency = models.CharField(max_length=3, help_text="Currency of the figures.")
    equity = ExactDecimalField(
        max_digits=28, decimal_places=10, help_text="Cash + marked positions; for the account IB's net liquidation."
    )
    cash = ExactDecimalField(max_digits=28, decimal_places=10, null=True, help_text="Cash part; null when unknown.")
    realized_pnl = ExactDecimalField(
        max_digits=28, decimal_places=10, null=True, help_text="Cumulative, net of fees; null when a rate is unknown."
    )
    unrealized_pnl = ExactDecimalField(
        max_digits=28, decimal_places=10, null=True, help_text="At the marks of this moment; null when one is missing."
    )

    grain = models.PositiveIntegerField(
        default=0,
        help_text="Seconds of the coarsest grid on which it is the owner's first; thinning keeps the coarser ones.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "owner", "taken_at"], name="equity_snapshot_identity")
        ]
        indexes = [
            models.Index(fields=["account", "owner", "grain", "taken_at"], name="equity_series"),
            models.Index(fields=["grain", "taken_at"], name="equity_thinning"),
        ]

    def __str__(self) -> str:
        return f"{self.owner or 'account'}@{self.taken_at:%Y-%m-%dT%H:%M:%SZ}"


class FxRate(models.Model):
    """Worth of one unit of a currency in the account's base currency at one moment. Append-only; thinned with age."""

    base = models.CharField(max_length=3, help_text="Base currency.")
    currency = models.CharField(max_length=3, help_text="Currency that is valued.")
    worth = ExactDecimalField(max_digits=28, decimal_places=10, help_text="Base units for one unit of the currency.")
    source = models.CharField(max_length=16, help_text="account (IB's ExchangeRate), spot, cross, flex or operator.")
    at = models.DateTimeField(help_text="When the rate held, UTC.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["base", "currency", "at"], name="fx_rate_identity")]

    def __str__(self) -> str:
        return f"{self.currency}/{self.base}={self.worth}"


class HourlySnapshot(models.Model):
    """An owner's (or, owner empty, the account's) books at the top of one hour. Immutable; kept for ever.

    Idempotency: one row an hour and owner. What was unknown at the moment is null and stays so.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, help_text="Account.")
    owner = models.CharField(
        max_length=32, blank=True, help_text="Strategy symbol, Discretionary, or empty: the account."
    )
    hour = models.DateTimeField(help_text="The full hour that it stands for, UTC.")
    taken_at = models.DateTimeField(help_text="When it was taken, after the check of the books, UTC.")
    last_movement = models.BigIntegerField(help_text="Id of the last movement in it.")
    currency = models.CharField(max_length=3, help_text="Currency of the figures.")
    equity = ExactDecimalField(max_digits=28, decimal_places=10, null=True, help_text="Null when it was not known.")
    cash = ExactDecimalField(max_digits=28, decimal_places=10, null=True, help_text="In ``currency``; null: unknown.")
    realized_pnl = ExactDecimalField(
        max_digits=28, decimal_places=10, null=True, help_text="Cumulative; null: unknown."
    )
    unrealized_pnl = ExactDecimalField(max_digits=28, decimal_places=10, null=True, help_text="Null: unknown.")
    positions = models.JSONField(
        default=list, help_text="Held positions and cash by currency, decimals as text; see hourly.positions_of."
    )
    figures = models.JSONField(default=dict, help_text="Of the account: available_funds, buying_power, … as text.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "owner", "hour"], name="hourly_snapshot_identity")]
        indexes = [models.Index(fields=["account", "hour"], name="hourly_by_hour")]

    def __str__(self) -> str:
        return f"{self.owner or 'account'}@{self.hour:%Y-%m-%dT%HZ}"
