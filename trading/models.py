"""Orders, the engine's lease, and the two tables that connect the engine with the web processes."""

from __future__ import annotations

import uuid
from decimal import Decimal

from django.conf import settings
from django.db import models

from trading.engine.lifecycle import StrategyState
from trading.orders.state import OrderState


class Order(models.Model):
    """One instruction, ours or seen at the broker.

    Identity: ``order_ref`` (ours) and ``perm_id`` (IB's). Lifetime: for ever. Writers: the intent writer creates it,
    the message thread moves it, only along ``orders.state``.
    """

    order_ref = models.CharField(
        max_length=64, unique=True, help_text="SYMBOL/<ulid>; for foreign orders perm/<permId>."
    )
    owner = models.CharField(max_length=32, db_index=True, help_text="Strategy symbol or Discretionary.")
    state = models.CharField(
        max_length=20,
        choices=[(s.value, s.value) for s in OrderState],
        db_index=True,
        help_text="Our own state machine.",
    )
    account_id = models.CharField(max_length=32, blank=True, help_text="IB account.")
    con_id = models.BigIntegerField(db_index=True, help_text="IB's contract id.")
    symbol = models.CharField(max_length=32, help_text="Ticker at the time.")
    sec_type = models.CharField(max_length=8, help_text="STK, …")
    currency = models.CharField(max_length=3, blank=True, help_text="Trading currency.")
    side = models.CharField(max_length=4, help_text="BUY or SELL.")
    quantity = models.DecimalField(max_digits=28, decimal_places=10, help_text="Ordered, unsigned.")
    order_type = models.CharField(max_length=16, help_text="MKT, LMT, STP, …")
    limit_price = models.DecimalField(max_digits=28, decimal_places=10, null=True, help_text="Limit, if any.")
    stop_price = models.DecimalField(max_digits=28, decimal_places=10, null=True, help_text="Stop trigger, if any.")
    tif = models.CharField(max_length=8, default="DAY", help_text="Time in force.")
    trail_amount = models.DecimalField(
        max_digits=28,
        decimal_places=10,
        null=True,
        help_text="What a trailing stop follows by, in the price's currency.",
    )
    trail_percent = models.DecimalField(
        max_digits=28, decimal_places=10, null=True, help_text="What a trailing stop follows by, in per cent."
    )
    limit_offset = models.DecimalField(
        max_digits=28, decimal_places=10, null=True, help_text="Distance of a trailing limit from its trigger."
    )
    good_till = models.DateTimeField(null=True, help_text="When a GTD order ends, UTC.")
    good_after = models.DateTimeField(null=True, help_text="Not worked before this, UTC.")
    outside_rth = models.BooleanField(default=False, help_text="May be worked outside regular hours.")
    algo = models.CharField(max_length=64, blank=True, help_text="IB's algorithm and its parameters.")
    oca_group = models.CharField(max_length=64, blank=True, help_text="Orders of one group cancel each other.")
    parent_ref = models.CharField(max_length=64, blank=True, help_text="Reference of the order that it protects.")
    transmitted = models.BooleanField(
        default=True, help_text="False: handed over together with a later order of its family."
    )
    legs = models.CharField(
        max_length=255, blank=True, help_text="Of a combination: con_id:ratio, sold ones below zero, by blanks."
    )
    filled = models.DecimalField(
        max_digits=28, decimal_places=10, default=Decimal(0), help_text="Sum of live executions, unsigned."
    )
    average_price = models.DecimalField(
        max_digits=28, decimal_places=10, null=True, help_text="Of the fills; null until one."
    )
    client_id = models.IntegerField(null=True, help_text="API client that sent it; only it may modify or cancel.")
    order_id = models.IntegerField(null=True, help_text="That client's order id.")
    perm_id = models.BigIntegerField(null=True, db_index=True, help_text="IB's permanent id, once known.")
    code_hash = models.CharField(max_length=64, blank=True, help_text="Strategy code that decided it.")
    params_revision = models.PositiveIntegerField(default=0, help_text="Parameter revision that decided it.")
    reason = models.CharField(max_length=400, blank=True, help_text="Why denied, rejected or unknown.")
    created_at = models.DateTimeField(help_text="Intent committed, UTC.")
    sent_at = models.DateTimeField(null=True, help_text="Handed to the wire, UTC.")
    updated_at = models.DateTimeField(help_text="UTC.")

    class Meta:
        indexes = [models.Index(fields=["owner", "-created_at"]), models.Index(fields=["client_id", "order_id"])]

    def __str__(self) -> str:
        return self.order_ref


class OrderEvent(models.Model):
    """One recorded change of an order. Append-only."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="events", help_text="The order.")
    at = models.DateTimeField(help_text="UTC.")
    state = models.CharField(max_length=20, help_text="State after the event.")
    ib_status = models.CharField(max_length=20, blank=True, help_text="IB's word, if it spoke.")
    filled = models.DecimalField(max_digits=28, decimal_places=10, help_text="Filled at that moment.")
    remaining = models.DecimalField(max_digits=28, decimal_places=10, help_text="Remaining at that moment.")
    message = models.CharField(max_length=400, blank=True, help_text="Error code and text, reason, source.")
    # What the order was at that moment: the order's own row goes on changing, history must not.
    account_id = models.CharField(max_length=32, blank=True, help_text="IB account, empty while not said.")
    client_id = models.IntegerField(null=True, help_text="API client that had sent it.")
    sent_id = models.IntegerField(null=True, help_text="That client's order id.")
    perm_id = models.BigIntegerField(null=True, help_text="IB's permanent id, once known.")
    quantity = models.DecimalField(
        max_digits=28, decimal_places=10, null=True, help_text="Ordered at that moment, unsigned."
    )
    order_type = models.CharField(max_length=16, blank=True, help_text="At that moment.")
    limit_price = models.DecimalField(max_digits=28, decimal_places=10, null=True, help_text="At that moment.")
    stop_price = models.DecimalField(max_digits=28, decimal_places=10, null=True, help_text="At that moment.")
    tif = models.CharField(max_length=8, blank=True, help_text="At that moment.")
    average_price = models.DecimalField(
        max_digits=28, decimal_places=10, null=True, help_text="Of the fills up to that moment."
    )

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.order_id}:{self.state}"


class StrategyRun(models.Model):
    """Runtime state of a strategy in the engine. One row a strategy; writer: the engine."""

    symbol = models.CharField(max_length=32, primary_key=True, help_text="Strategy symbol.")
    state = models.CharField(
        max_length=12,
        choices=[(s.value, s.value) for s in StrategyState],
        default=StrategyState.STOPPED,
        help_text="Lifecycle state.",
    )
    client_id = models.IntegerField(null=True, help_text="IB client id while it runs.")
    connected = models.BooleanField(default=False, help_text="Its own IB connection is up.")
    message = models.CharField(max_length=400, blank=True, help_text="Last error or notice, for the page.")
    traceback = models.TextField(blank=True, help_text="Of the last failure.")
    started_at = models.DateTimeField(null=True, help_text="UTC.")
    heartbeat_at = models.DateTimeField(null=True, help_text="Last sign of life of its loop, UTC.")
    restarts = models.PositiveIntegerField(default=0, help_text="Restarts since the engine started.")
    updated_at = models.DateTimeField(auto_now=True, help_text="UTC.")

    def __str__(self) -> str:
        return f"{self.symbol}:{self.state}"


class EngineLease(models.Model):
    """Who may write: one engine per database. One row; the epoch only grows and fences stale writers."""

    name = models.CharField(max_length=16, primary_key=True, default="engine", help_text="Always «engine».")
    epoch = models.PositiveBigIntegerField(default=0, help_text="Grows with every acquisition.")
    holder = models.CharField(max_length=128, blank=True, help_text="host:pid:token; empty when free.")
    expires_at = models.DateTimeField(null=True, help_text="UTC; another engine may take it afterwards.")
    heartbeat_at = models.DateTimeField(null=True, help_text="UTC.")
    status = models.JSONField(default=dict, help_text="Heartbeat figures: state, connections, queue, memory, versions.")

    def __str__(self) -> str:
        return f"epoch {self.epoch}"


class CommandState(models.TextChoices):
    """Life of a command."""

    QUEUED = "queued", "Queued"
    ACCEPTED = "accepted", "Accepted"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    EXPIRED = "expired", "Expired"


class EngineCommand(models.Model):
    """A request to the engine, its acknowledgement and its outcome. Claimed by one engine, once."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False, help_text="Public id.")
    kind = models.CharField(max_length=32, help_text="See engine.commands.")
    args = models.JSONField(default=dict, help_text="Arguments by name.")
    idempotency_key = models.CharField(max_length=96, unique=True, null=True, help_text="Same key, same command.")  # noqa: DJ001 - unique, and most rows have none
    priority = models.SmallIntegerField(default=0, help_text="Higher first.")
    state = models.CharField(max_length=8, choices=CommandState.choices, default=CommandState.QUEUED, help_text="Life.")
    epoch = models.PositiveBigIntegerField(null=True, help_text="Engine that claimed it.")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", help_text="Who asked."
    )
    source = models.CharField(max_length=16, blank=True, help_text="page, api, admin, cli, engine.")
    created_at = models.DateTimeField(db_index=True, help_text="UTC.")
    expires_at = models.DateTimeField(null=True, help_text="Not started after this, UTC.")
    accepted_at = models.DateTimeField(null=True, help_text="UTC.")
    finished_at = models.DateTimeField(null=True, help_text="UTC.")
    result = models.JSONField(null=True, help_text="Outcome.")
    error = models.CharField(max_length=400, blank=True, help_text="Why it failed.")
    error_code = models.CharField(max_length=40, blank=True, help_text="Machine-readable reason.")

    class Meta:
        indexes = [models.Index(fields=["state", "-priority", "created_at"])]
        permissions = [("operate", "May start, stop and cancel")]

    def __str__(self) -> str:
        return f"{self.kind}:{self.state}"


class EngineEvent(models.Model):
    """What the pages tail, by id, written in the transaction of the fact it reports. Pruned by age.

    Ids are AUTOINCREMENT on SQLite (Django's default) and commit in order because writers hold the IMMEDIATE lock.
    """

    id = models.BigAutoField(primary_key=True, help_text="Cursor of the pages.")
    at = models.DateTimeField(help_text="UTC.")
    kind = models.CharField(max_length=16, help_text="See engine.events.EventKind.")
    strategy = models.CharField(max_length=32, blank=True, db_index=True, help_text="Owner it concerns, or empty.")
    payload = models.JSONField(help_text="See engine.events; decimals as text, times ISO 8601 UTC.")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.id}:{self.kind}"


class Severity(models.TextChoices):
    """How soon a person should look."""

    INFO = "info", "Info"
    WARNING = "warning", "Warning"
    CRITICAL = "critical", "Critical"


class Alert(models.Model):
    """Something that a person should see and that stands until it is over. At most one open alert for each key."""

    key = models.CharField(max_length=96, db_index=True, help_text="What it is about, for example break:265598.")
    severity = models.CharField(max_length=8, choices=Severity.choices, help_text="How soon to look.")
    title = models.CharField(max_length=160, help_text="One line.")
    text = models.TextField(blank=True, help_text="What happened and what to do.")
    strategy = models.CharField(max_length=32, blank=True, help_text="Owner that it concerns, or empty.")
    opened_at = models.DateTimeField(db_index=True, help_text="UTC.")
    last_at = models.DateTimeField(help_text="Last time it was raised, UTC.")
    times = models.PositiveIntegerField(default=1, help_text="How often it was raised.")
    acknowledged_at = models.DateTimeField(null=True, help_text="UTC; seen by a person, not over.")
    acknowledged_by = models.CharField(max_length=150, blank=True, help_text="Who saw it.")
    cleared_at = models.DateTimeField(null=True, help_text="When it was over, UTC.")
    delivery = models.JSONField(
        default=dict,
        blank=True,
        help_text="By channel: when it was sent, how grave it was then, tries that failed and why.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["key"], condition=models.Q(cleared_at__isnull=True), name="one_open_alert")
        ]

    def __str__(self) -> str:
        return f"{self.severity}:{self.key}"


# Of one file each, so that neither outgrows its name.
from trading.risk_models import (  # noqa: E402, F401 - Django finds models through this module
    DeadManRun,
    MarginReading,
    RiskLimit,
    RiskLock,
    RiskOverride,
    RiskRevision,
    TradingControl,
)
from trading.session_models import (  # noqa: E402, F401
    Holiday,
    MarketHours,
    ScannerConfig,
    ScanRun,
    SessionConfig,
    SessionRun,
)
from trading.work_models import BacktestRun, Job  # noqa: E402, F401
