"""What IB holds beside what the books hold, and every difference between them."""

from __future__ import annotations

from django.db import models

from portfolio.fields import ExactDecimalField
from portfolio.models.accounts import Account, Instrument


class BrokerHolding(models.Model):
    """A position as IB last reported it in a complete answer (``Account.positions_at``); rows of flat ones go.

    Written by the reconciliation alone, all rows of an answer in one transaction.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, help_text="Account.")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, help_text="What IB holds.")
    quantity = ExactDecimalField(max_digits=28, decimal_places=10, help_text="Signed.")
    average_cost = ExactDecimalField(
        max_digits=28, decimal_places=10, help_text="As IB says it: with commission and multiplier."
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "instrument"], name="broker_holding_identity")]

    def __str__(self) -> str:
        return f"{self.instrument_id}: {self.quantity}"


class BreakKind(models.TextChoices):
    """What differs."""

    POSITION = "position", "Position"
    CASH = "cash", "Cash"


class BreakState(models.TextChoices):
    """Life of a break."""

    OPEN = "open", "Open"
    CLEARED = "cleared", "Cleared"


class Break(models.Model):
    """Difference between what IB says and the books; never corrected quietly.

    Of a position: locks the instrument while open. Of cash in one currency: shown and alerted.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, help_text="Account.")
    kind = models.CharField(
        max_length=8, choices=BreakKind.choices, default=BreakKind.POSITION, help_text="What differs."
    )
    instrument = models.ForeignKey(
        Instrument, null=True, on_delete=models.PROTECT, help_text="Where positions differ; null for cash."
    )
    currency = models.CharField(max_length=3, blank=True, help_text="Where cash differs; empty for a position.")
    ib_quantity = ExactDecimalField(
        max_digits=28, decimal_places=10, help_text="What IB holds: units, or money in ``currency``."
    )
    ledger_quantity = ExactDecimalField(max_digits=28, decimal_places=10, help_text="Σ strategies + Discretionary.")
    cause = models.JSONField(
        default=dict, help_text="What may explain it: executions, parked reports, adjustments; see causes."
    )
    acknowledged_at = models.DateTimeField(null=True, help_text="UTC; seen by an operator, still open.")
    acknowledged_by = models.CharField(max_length=150, blank=True, help_text="Who, and in which words.")
    state = models.CharField(
        max_length=8, choices=BreakState.choices, default=BreakState.OPEN, help_text="Open or cleared."
    )
    opened_at = models.DateTimeField(help_text="UTC.")
    cleared_at = models.DateTimeField(null=True, help_text="UTC.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "instrument"],
                condition=models.Q(state="open", kind="position"),
                name="one_open_break",
            ),
            models.UniqueConstraint(
                fields=["account", "currency"],
                condition=models.Q(state="open", kind="cash"),
                name="one_open_cash_break",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instrument_id or self.currency}: IB {self.ib_quantity}, ledger {self.ledger_quantity}"
