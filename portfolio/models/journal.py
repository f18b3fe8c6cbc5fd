"""The journal and what is folded from it: executions, adjustments, movements, positions, cash.

Rule: executions and movements are immutable; positions and cash are their fold and can be rebuilt from them.
"""

from __future__ import annotations

from decimal import Decimal

from django.db import models

from portfolio.fields import ExactDecimalField
from portfolio.ledger.positions import average_cost
from portfolio.models.accounts import Account, Instrument


class Execution(models.Model):
    """IB's report of one fill. Identity: exec_id. Kept for ever.

    Immutable but for the fee that comes later, ``superseded``, and ``owner`` with ``divided`` when it is assigned.
    """

    exec_id = models.CharField(max_length=64, unique=True, help_text="IB's execution id.")
    family = models.CharField(
        max_length=64, db_index=True, help_text="exec_id without its last segment: corrections share it."
    )
    revision = models.PositiveIntegerField(help_text="Last segment of exec_id; the highest is in force.")
    superseded = models.BooleanField(default=False, help_text="A later correction replaced it.")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, help_text="Account that traded.")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, help_text="What was traded.")
    owner = models.CharField(
        max_length=32, db_index=True, help_text="Strategy symbol or Discretionary; of a divided one an owner of a part."
    )
    divided = models.BooleanField(default=False, help_text="Several owners have a share; its movements say which.")
    order_ref = models.CharField(max_length=64, blank=True, db_index=True, help_text="Our order reference, if any.")
    perm_id = models.BigIntegerField(help_text="IB's permanent order id.")
    client_id = models.IntegerField(help_text="API client that placed the order.")
    order_id = models.IntegerField(help_text="That client's order id; not unique.")
    side = models.CharField(max_length=3, help_text="BOT or SLD.")
    quantity = ExactDecimalField(max_digits=28, decimal_places=10, help_text="Signed: buys positive, sells negative.")
    price = ExactDecimalField(max_digits=28, decimal_places=10, help_text="Per unit, in the instrument's currency.")
    cum_quantity = ExactDecimalField(
        max_digits=28, decimal_places=10, help_text="Filled so far on the order, as IB said."
    )
    exchange = models.CharField(max_length=32, blank=True, help_text="Where it traded.")
    executed_at = models.DateTimeField(
        db_index=True, help_text="IB's time, UTC; of a correction that of what it corrects."
    )
    recorded_at = models.DateTimeField(help_text="When the ledger committed it, UTC.")
    commission = ExactDecimalField(max_digits=28, decimal_places=10, null=True, help_text="Null until IB reports it.")
    commission_currency = models.CharField(max_length=3, blank=True, help_text="Currency of the commission.")

    class Meta:
        indexes = [models.Index(fields=["owner", "-executed_at"])]

    def __str__(self) -> str:
        return self.exec_id


class MovementKind(models.TextChoices):
    """Why quantity or cash moved."""

    OPENING = "opening", "Opening balance"
    ALLOCATION = "allocation", "Allocation between owners"
    FILL = "fill", "Fill"
    COMMISSION = "commission", "Commission"
    REVERSAL = "reversal", "Reversal of a corrected entry"
    ASSIGNMENT = "assignment", "Assignment of an execution to another owner"
    TRANSFER = "transfer", "Transfer between owners"
    DEPOSIT = "deposit", "Deposit"
    WITHDRAWAL = "withdrawal", "Withdrawal"
    DIVIDEND = "dividend", "Dividend"
    TAX = "tax", "Tax withheld"
    INTEREST = "interest", "Interest"
    FEE = "fee", "Fee that belongs to no execution"
    SPLIT = "split", "Split"
    CONVERSION = "conversion", "Change of contract"
    EXPIRY = "expiry", "Expiry"
    EXERCISE = "exercise", "Exercise or assignment of an option"
    ADJUSTMENT = "adjustment", "Adjustment"


class AdjustmentKind(models.TextChoices):
    """Events that move the books and are no fill."""

    DEPOSIT = "deposit", "Deposit"
    WITHDRAWAL = "withdrawal", "Withdrawal"
    TRANSFER_CASH = "transfer_cash", "Transfer of cash between owners"
    TRANSFER_POSITION = "transfer_position", "Transfer of a position between owners"
    RECEIPT = "receipt", "Units received without a trade"
    DELIVERY = "delivery", "Units delivered without a trade"
    REBALANCE = "rebalance", "Rebalancing to a target weight"
    REASSIGNMENT = "reassignment", "Assignment of an execution to another owner"
    DIVIDEND = "dividend", "Dividend"
    TAX = "tax", "Tax withheld"
    INTEREST = "interest", "Interest"
    FEE = "fee", "Fee"
    SPLIT = "split", "Split"
    SYMBOL_CHANGE = "symbol_change", "Change of contract"
    EXPIRY = "expiry", "Expiry"
    EXERCISE = "exercise", "Exercise or assignment of an option"


class AdjustmentState(models.TextChoices):
    """Life of an adjustment."""

    PROPOSED = "proposed", "Proposed"
    BOOKED = "booked", "Booked"
    REJECTED = "rejected", "Rejected"
    UNDONE = "undone", "Undone"


class Adjustment(models.Model):
    """One event that is no fill: who booked it, why, and what it says. Never deleted; an undo is another one.

    Identity: ``key``, so that a statement that is read twice books once. ``details`` is checked by ``ledger.events``.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, help_text="Account.")
    kind = models.CharField(max_length=20, choices=AdjustmentKind.choices, help_text="What happened.")
    state = models.CharField(max_length=8, choices=AdjustmentState.choices, help_text="Life.")
    key = models.CharField(max_length=96, unique=True, help_text="Idempotency key, for example flex:<transactionID>.")
    instrument = models.ForeignKey(Instrument, null=True, on_delete=models.PROTECT, help_text="Concerned, if any.")
    execution = models.ForeignKey(Execution, null=True, on_delete=models.PROTECT, help_text="Reassigned, if any.")
    details = models.JSONField(help_text="By kind; decimals as text. See ledger.events.")
    effective_at = models.DateTimeField(help_text="When it happened, UTC; allocation by holdings looks there.")
    reason = models.CharField(max_length=400, blank=True, help_text="Why, in the words of who booked it.")
    actor = models.CharField(max_length=150, help_text="User name, or the part of MATS that did it.")
    source = models.CharField(max_length=16, help_text="page, api, admin, cli, flex, engine or schedule.")
    created_at = models.DateTimeField(help_text="UTC.")
    booked_at = models.DateTimeField(null=True, help_text="UTC; null while proposed or rejected.")
    undoes = models.OneToOneField(
        "self", null=True, on_delete=models.PROTECT, related_name="undone_by", help_text="The one that it takes back."
    )

    class Meta:
        indexes = [models.Index(fields=["account", "state", "-id"], name="adjustment_by_state")]

    def __str__(self) -> str:
        return self.key


class Movement(models.Model):
    """One immutable entry of the journal. Identity: id, which is also its order."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, help_text="Account.")
    owner = models.CharField(max_length=32, help_text="Strategy symbol or Discretionary.")
    kind = models.CharField(max_length=12, choices=MovementKind.choices, help_text="Why it moved.")
    execution = models.ForeignKey(
        Execution, null=True, on_delete=models.PROTECT, help_text="The fill behind it, if any."
    )
    adjustment = models.ForeignKey(
        Adjustment, null=True, on_delete=models.PROTECT, help_text="The event behind it that is no fill, if any."
    )
    slot = models.BigIntegerField(
        null=True, help_text="Place in the fold of an assigned fill: its first movement's id; null: its own id."
    )
    instrument = models.ForeignKey(Instrument, null=True, on_delete=models.PROTECT, help_text="Null for pure cash.")
    quantity = ExactDecimalField(
        max_digits=28, decimal_places=10, default=Decimal(0), help_text="Signed change of the position."
    )
    price = ExactDecimalField(
        max_digits=28, decimal_places=10, null=True, help_text="Price of the change, instrument currency."
    )
    cash = ExactDecimalField(
        max_digits=28, decimal_places=10, default=Decimal(0), help_text="Signed change of cash, in ``currency``."
    )
    currency = models.CharField(max_length=3, help_text="Currency of ``cash`` and ``realized_pnl``.")
    realized_pnl = ExactDecimalField(
        max_digits=28,
        decimal_places=10,
        default=Decimal(0),
        help_text="Realised by this entry, in ``currency``; a fee realises its own negative.",
    )
    quantity_after = ExactDecimalField(
        max_digits=28, decimal_places=10, null=True, help_text="The owner's position after this entry."
    )
    basis_after = ExactDecimalField(
        max_digits=28, decimal_places=10, null=True, help_text="The position's cost basis after this entry."
    )
    realized_after = ExactDecimalField(
        max_digits=28, decimal_places=10, null=True, help_text="The position's cumulative realised P&L after it."
    )
    cash_after = ExactDecimalField(
        max_digits=28, decimal_places=10, help_text="The owner's cash in ``currency`` after this entry."
    )
    booked_at = models.DateTimeField(help_text="UTC, of the batch that booked it.")
    key = models.CharField(max_length=96, unique=True, help_text="Idempotency key, for example fill:<exec_id>.")

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["owner", "instrument"])]

    def __str__(self) -> str:
        return self.key


class Position(models.Model):
    """Net quantity of one owner in one instrument. Fold of movements."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, help_text="Account.")
    owner = models.CharField(max_length=32, help_text="Strategy symbol or Discretionary.")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, help_text="What is held.")
    quantity = ExactDecimalField(max_digits=28, decimal_places=10, default=Decimal(0), help_text="Signed.")
    cost_basis = ExactDecimalField(
        max_digits=28,
        decimal_places=10,
        default=Decimal(0),
        help_text="What the quantity cost, signed, with multiplier, without commission; the average is derived.",
    )
    realized_pnl = ExactDecimalField(
        max_digits=28,
        decimal_places=10,
        default=Decimal(0),
        help_text="Cumulative, instrument currency, net of the fees paid in that currency.",
    )
    commissions = ExactDecimalField(
        max_digits=28,
        decimal_places=10,
        default=Decimal(0),
        help_text="Cumulative fees paid in the instrument's currency.",
    )
    updated_at = models.DateTimeField(help_text="UTC.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "owner", "instrument"], name="position_identity"),
        ]

    def __str__(self) -> str:
        return f"{self.owner}:{self.instrument_id}"

    @property
    def average_cost(self) -> Decimal:
        """Per unit, no commission, no multiplier; select the instrument with the rows."""
        return average_cost(self.quantity, self.cost_basis, self.instrument.multiplier)


class CashBalance(models.Model):
    """Cash of one owner in one currency. Fold of movements."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, help_text="Account.")
    owner = models.CharField(max_length=32, help_text="Strategy symbol or Discretionary.")
    currency = models.CharField(max_length=3, help_text="ISO 4217.")
    amount = ExactDecimalField(max_digits=28, decimal_places=10, default=Decimal(0), help_text="Signed.")
    realized_apart = ExactDecimalField(
        max_digits=28,
        decimal_places=10,
        default=Decimal(0),
        help_text="Realised in this currency outside its positions: fees of instruments that trade in another one.",
    )
    updated_at = models.DateTimeField(help_text="UTC.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "owner", "currency"], name="cash_identity")]

    def __str__(self) -> str:
        return f"{self.owner}:{self.currency}"


class PendingCommission(models.Model):
    """A commission report whose execution has not arrived. Deleted when it has."""

    exec_id = models.CharField(max_length=64, primary_key=True, help_text="IB's execution id.")
    amount = ExactDecimalField(max_digits=28, decimal_places=10, help_text="Fee, positive is paid.")
    currency = models.CharField(max_length=3, help_text="Currency of the fee.")
    received_at = models.DateTimeField(help_text="UTC.")

    def __str__(self) -> str:
        return self.exec_id


class ParkedState(models.TextChoices):
    """Life of a parked report."""

    WAITING = "waiting", "Waiting"
    BOOKED = "booked", "Booked"
    DISCARDED = "discarded", "Discarded"


class ParkedReport(models.Model):
    """A report of the broker that cannot be booked as it came: kept whole until an operator settles it.

    Identity: ``key``; the same report that comes again is the same row.
    """

    key = models.CharField(max_length=96, unique=True, help_text="fill:<exec_id> or commission:<exec_id>.")
    account_id = models.CharField(max_length=32, blank=True, help_text="As the report said it; may be none of ours.")
    con_id = models.BigIntegerField(default=0, help_text="Contract that it concerns, 0 when unknown.")
    payload = models.JSONField(help_text="The whole report; decimals as text, times ISO 8601 UTC.")
    code = models.CharField(max_length=40, help_text="Machine-readable reason.")
    reason = models.CharField(max_length=400, help_text="Why it could not be booked.")
    parked_at = models.DateTimeField(help_text="First time, UTC.")
    last_at = models.DateTimeField(help_text="Last time, UTC.")
    times = models.PositiveIntegerField(default=1, help_text="How often it came.")
    state = models.CharField(max_length=9, choices=ParkedState.choices, default=ParkedState.WAITING, help_text="Life.")
    settled_at = models.DateTimeField(null=True, help_text="UTC.")
    settled_by = models.CharField(max_length=150, blank=True, help_text="Who settled it, and why.")

    def __str__(self) -> str:
        return self.key
