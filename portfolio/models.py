"""The ledger's tables: whose money it is.

Rule: executions and movements are immutable; positions and cash are their fold and can be rebuilt from them.
Owner columns hold a strategy symbol or ``Discretionary`` as text, so that no deletion can touch the books.
Single writer: ``portfolio.services``, called by the engine's message thread inside one transaction per batch.
"""

from __future__ import annotations

from decimal import Decimal

from django.db import models

from portfolio.fields import ExactDecimalField
from portfolio.ledger.positions import average_cost


class Account(models.Model):
    """One IB account. Identity: its id. Lifetime: for ever once opened."""

    account_id = models.CharField(max_length=32, primary_key=True, help_text="IB's id, for example DU1000001.")
    base_currency = models.CharField(max_length=3, blank=True, help_text="From IB; empty until known, never guessed.")
    opened_at = models.DateTimeField(
        null=True, help_text="When opening balances were booked, UTC; null until then and nothing trades."
    )

    def __str__(self) -> str:
        return self.account_id


class Instrument(models.Model):
    """One IB contract. Identity: conId, never the ticker. Lifetime: for ever."""

    con_id = models.BigIntegerField(primary_key=True, help_text="IB's contract id.")
    symbol = models.CharField(max_length=32, help_text="Ticker; not unique.")
    sec_type = models.CharField(max_length=8, help_text="STK, OPT, FUT, CASH, IND, …")
    exchange = models.CharField(max_length=32, blank=True, help_text="Routing exchange as last seen.")
    primary_exchange = models.CharField(max_length=32, blank=True, help_text="Listing exchange.")
    currency = models.CharField(max_length=3, help_text="Trading currency.")
    local_symbol = models.CharField(max_length=64, blank=True, help_text="Exchange's own symbol.")
    trading_class = models.CharField(max_length=32, blank=True, help_text="IB's trading class.")
    multiplier = ExactDecimalField(
        max_digits=28, decimal_places=10, default=Decimal(1), help_text="Units of currency per point."
    )
    expiry = models.CharField(max_length=8, blank=True, help_text="yyyymmdd or empty.")
    strike = ExactDecimalField(max_digits=28, decimal_places=10, null=True, help_text="Options only.")
    right = models.CharField(max_length=1, blank=True, help_text="C, P or empty.")

    class Meta:
        indexes = [models.Index(fields=["symbol", "sec_type"])]

    def __str__(self) -> str:
        return self.local_symbol or self.symbol


class Execution(models.Model):
    """IB's report of one fill. Identity: exec_id. Immutable but for ``superseded``; kept for ever."""

    exec_id = models.CharField(max_length=64, unique=True, help_text="IB's execution id.")
    family = models.CharField(
        max_length=64, db_index=True, help_text="exec_id without its last segment: corrections share it."
    )
    revision = models.PositiveIntegerField(help_text="Last segment of exec_id; the highest is in force.")
    superseded = models.BooleanField(default=False, help_text="A later correction replaced it.")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, help_text="Account that traded.")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, help_text="What was traded.")
    owner = models.CharField(max_length=32, db_index=True, help_text="Strategy symbol or Discretionary.")
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
    executed_at = models.DateTimeField(db_index=True, help_text="IB's time, UTC.")
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
    ASSIGNMENT = "assignment", "Assignment to another owner"
    ADJUSTMENT = "adjustment", "Adjustment"


class Movement(models.Model):
    """One immutable entry of the journal. Identity: id, which is also its order."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, help_text="Account.")
    owner = models.CharField(max_length=32, help_text="Strategy symbol or Discretionary.")
    kind = models.CharField(max_length=12, choices=MovementKind.choices, help_text="Why it moved.")
    execution = models.ForeignKey(
        Execution, null=True, on_delete=models.PROTECT, help_text="The fill behind it, if any."
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


class Mark(models.Model):
    """Latest price of an instrument. Writer: the engine, at most once a second each."""

    instrument = models.OneToOneField(
        Instrument, primary_key=True, on_delete=models.CASCADE, help_text="What is priced."
    )
    price = ExactDecimalField(max_digits=28, decimal_places=10, help_text="Instrument currency.")
    marked_at = models.DateTimeField(help_text="UTC; older marks are shown as stale.")

    def __str__(self) -> str:
        return f"{self.instrument_id}@{self.price}"


class AccountValue(models.Model):
    """IB's own account figures, keyed by tag and currency (BASE rows never overwrite currency rows)."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, help_text="Account.")
    tag = models.CharField(max_length=64, help_text="IB's key, for example NetLiquidation.")
    currency = models.CharField(max_length=8, blank=True, help_text="ISO code, BASE or empty.")
    value = models.CharField(max_length=64, help_text="As IB sent it.")
    updated_at = models.DateTimeField(help_text="UTC.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["account", "tag", "currency"], name="account_value_identity")]

    def __str__(self) -> str:
        return f"{self.tag}={self.value}"


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


class BreakState(models.TextChoices):
    """Life of a break."""

    OPEN = "open", "Open"
    CLEARED = "cleared", "Cleared"


class Break(models.Model):
    """Difference between IB's position and the ledger's. Locks the instrument while open; never corrected quietly."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, help_text="Account.")
    instrument = models.ForeignKey(Instrument, on_delete=models.PROTECT, help_text="Where the books differ.")
    ib_quantity = ExactDecimalField(max_digits=28, decimal_places=10, help_text="What IB holds.")
    ledger_quantity = ExactDecimalField(max_digits=28, decimal_places=10, help_text="Σ strategies + Discretionary.")
    state = models.CharField(
        max_length=8, choices=BreakState.choices, default=BreakState.OPEN, help_text="Open or cleared."
    )
    opened_at = models.DateTimeField(help_text="UTC.")
    cleared_at = models.DateTimeField(null=True, help_text="UTC.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "instrument"], condition=models.Q(state="open"), name="one_open_break"
            )
        ]

    def __str__(self) -> str:
        return f"{self.instrument_id}: IB {self.ib_quantity}, ledger {self.ledger_quantity}"


class ProjectionCursor(models.Model):
    """How far one ArcticDB symbol reflects the ledger; ArcticDB's own metadata is the authority after a crash."""

    symbol = models.CharField(max_length=160, primary_key=True, help_text="library:symbol.")
    last_seq = models.BigIntegerField(default=0, help_text="Ledger row id up to which it is written.")
    updated_at = models.DateTimeField(auto_now=True, help_text="UTC.")

    def __str__(self) -> str:
        return f"{self.symbol}@{self.last_seq}"
