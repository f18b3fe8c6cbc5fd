"""Long work that people ask for, done by the worker process: jobs, and what backtests came to.

Single writers: ``trading.work_services`` makes and cancels jobs, the worker that claimed one moves it.
"""

from __future__ import annotations

from django.db import models


class JobKind(models.TextChoices):
    """What there is to do."""

    BACKTEST = "backtest", "Backtest"
    SWEEP = "sweep", "Parameter sweep"
    WALK_FORWARD = "walk_forward", "Walk-forward"
    LOOKAHEAD = "lookahead", "Lookahead check"
    WARM_UP = "warm_up", "Warm-up check"
    SHADOW = "shadow", "Shadow replay"
    INGEST = "ingest", "Ingest of bars"
    SCAN = "scan", "Scan"


class JobState(models.TextChoices):
    """Where a job stands. Final: done, failed, cancelled."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


class Job(models.Model):
    """One piece of long work. Lifetime: pruned some weeks after its end, with its result kept where it belongs."""

    kind = models.CharField(max_length=16, choices=JobKind.choices, db_index=True, help_text="What to do.")
    args = models.JSONField(default=dict, help_text="Checked arguments.")
    state = models.CharField(
        max_length=10, choices=JobState.choices, default=JobState.QUEUED, db_index=True, help_text="Where it stands."
    )
    progress = models.FloatField(default=0.0, help_text="Fraction done, 0–1.")
    message = models.CharField(max_length=400, blank=True, help_text="What it is at, for a person.")
    cancel_wanted = models.BooleanField(default=False, help_text="Somebody asked it to stop.")
    worker = models.CharField(max_length=80, blank=True, help_text="Host and process that claimed it.")
    beat_at = models.DateTimeField(null=True, help_text="The worker's last sign of life, UTC.")
    result = models.JSONField(default=dict, blank=True, help_text="What came out, small.")
    error = models.TextField(blank=True, help_text="Why it failed, with the traceback of user code.")
    created_by = models.CharField(max_length=150, help_text="Who asked for it.")
    created_at = models.DateTimeField(help_text="UTC.")
    started_at = models.DateTimeField(null=True, help_text="UTC.")
    ended_at = models.DateTimeField(null=True, help_text="UTC.")

    class Meta:
        ordering = ["-id"]
        permissions = [("run_work", "May start and cancel backtests, scans and ingests")]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class BacktestRun(models.Model):
    """One backtest and what it came to; series lie in ArcticDB ``backtests/<name>_equity, _trades, …``.

    Identity: ``name``. What is needed to run it again is here: file, code hash, parameters, data and its versions.
    """

    name = models.CharField(max_length=120, unique=True, help_text="Letters, digits, dot, underscore and hyphen.")
    job = models.OneToOneField(Job, null=True, on_delete=models.SET_NULL, related_name="run", help_text="Who runs it.")
    parent = models.ForeignKey(
        "self", null=True, on_delete=models.CASCADE, related_name="children", help_text="The study it belongs to."
    )
    strategies = models.JSONField(default=list, help_text="Names, files, code hashes, parameters, cash of each.")
    symbols = models.JSONField(default=list, help_text="Instruments.")
    interval = models.CharField(max_length=8, help_text="Base interval, such as 1m.")
    source = models.CharField(max_length=80, help_text="Where its bars came from.")
    data_versions = models.JSONField(default=dict, help_text="Version of each series that was read.")
    start_at = models.DateTimeField(help_text="First moment traded, UTC.")
    end_at = models.DateTimeField(help_text="Last moment traded, UTC.")
    settings = models.JSONField(default=dict, help_text="Fees, slippage, participation, seed.")
    state = models.CharField(max_length=10, choices=JobState.choices, help_text="Where it stands.")
    bars = models.BigIntegerField(default=0, help_text="Base bars of all symbols.")
    fills = models.IntegerField(default=0, help_text="Executions.")
    seconds = models.FloatField(null=True, help_text="Wall time of the run alone.")
    metrics = models.JSONField(default=dict, help_text="Figures of the whole and of each strategy; null: undefined.")
    curves = models.JSONField(default=dict, help_text="Equity and drawdown of each strategy, thinned for pages.")
    warnings = models.JSONField(default=list, help_text="What a reader must know.")
    error = models.TextField(blank=True, help_text="Why it failed.")
    created_by = models.CharField(max_length=150, help_text="Who asked for it.")
    created_at = models.DateTimeField(help_text="UTC.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name
