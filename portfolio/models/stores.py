"""How far other stores reflect the ledger, and statements that were read into it."""

from __future__ import annotations

from django.db import models

from portfolio.models.accounts import Account


class ProjectionCursor(models.Model):
    """How far one ArcticDB symbol reflects the ledger; ArcticDB's own metadata is the authority after a crash."""

    symbol = models.CharField(max_length=160, primary_key=True, help_text="library:symbol.")
    last_seq = models.BigIntegerField(default=0, help_text="Ledger row id up to which it is written.")
    updated_at = models.DateTimeField(auto_now=True, help_text="UTC.")

    def __str__(self) -> str:
        return f"{self.symbol}@{self.last_seq}"


class FlexStatement(models.Model):
    """One Flex statement that was read. Identity: the file's SHA-256; reading it again changes nothing."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, help_text="Account that it is of.")
    sha256 = models.CharField(max_length=64, unique=True, help_text="Of the file.")
    query_name = models.CharField(max_length=80, blank=True, help_text="The Flex query's name.")
    from_date = models.DateField(help_text="First day, New York.")
    to_date = models.DateField(help_text="Last day, New York.")
    generated_at = models.DateTimeField(null=True, help_text="By IB, UTC.")
    imported_at = models.DateTimeField(help_text="UTC.")
    actor = models.CharField(max_length=150, help_text="Who imported it.")
    counts = models.JSONField(default=dict, help_text="Rows read, matched, booked, proposed, differing.")

    def __str__(self) -> str:
        return f"{self.account_id} {self.from_date}–{self.to_date}"


class FindingState(models.TextChoices):
    """Life of a finding."""

    OPEN = "open", "Open"
    RESOLVED = "resolved", "Resolved"


class FlexFinding(models.Model):
    """One line of a statement that the books did not have as it stands there. Identity: statement and key."""

    statement = models.ForeignKey(
        FlexStatement, on_delete=models.PROTECT, related_name="findings", help_text="Where it was found."
    )
    kind = models.CharField(
        max_length=24, help_text="missing_execution, quantity, price, commission, cash, position, corporate_action, …"
    )
    key = models.CharField(max_length=96, help_text="execId or transaction id.")
    text = models.CharField(max_length=400, help_text="For a person.")
    details = models.JSONField(default=dict, help_text="Both sides; decimals as text.")
    state = models.CharField(
        max_length=8, choices=FindingState.choices, default=FindingState.OPEN, help_text="Open or resolved."
    )
    resolution = models.CharField(max_length=400, blank=True, help_text="What was booked, or who closed it.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["statement", "kind", "key"], name="flex_finding_identity")]

    def __str__(self) -> str:
        return f"{self.kind}:{self.key}"


class ParcelState(models.TextChoices):
    """Where a parcel stands."""

    WAITING = "waiting", "Waiting"
    WRITTEN = "written", "Written"
    FAILED = "failed", "Failed"


class ArcticParcel(models.Model):
    """A frame on its way into ArcticDB from a process that may not write there while the engine does.

    The frame lies as Parquet under ``MATS_HOME/parcels/<pk>.parquet`` until the writer took it, in order of ``pk``.
    Single writers: ``portfolio.arctic.parcels`` makes and ends them.
    """

    library = models.CharField(max_length=80, help_text="ArcticDB library.")
    symbol = models.CharField(max_length=200, help_text="ArcticDB symbol.")
    mode = models.CharField(
        max_length=8, help_text="write: replace the table; append: add later rows; update: by range."
    )
    metadata = models.JSONField(default=dict, blank=True, help_text="Stored with the version.")
    rows = models.PositiveIntegerField(help_text="Rows of the frame.")
    source = models.CharField(max_length=80, help_text="Who sends it, such as job:17.")
    state = models.CharField(max_length=8, choices=ParcelState.choices, default=ParcelState.WAITING, db_index=True)
    error = models.CharField(max_length=400, blank=True, help_text="Why it could not be written.")
    version = models.PositiveIntegerField(null=True, help_text="ArcticDB's version that holds it.")
    created_at = models.DateTimeField(help_text="UTC.")
    ended_at = models.DateTimeField(null=True, help_text="UTC.")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.library}/{self.symbol}"
