"""Wire types of the API: the ones all routers share, and those of strategies.

Rule: decimals travel as plain text without exponent, times as ISO 8601 UTC ending in Z, lists as pages.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar

from ninja import Schema
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ConfigDict, Field, PlainSerializer

from strategies.models import (
    CURRENCY_PATTERN,
    FILENAME_PATTERN,
    STRATEGY_SYMBOL_PATTERN,
    ConnectionKind,
    RestartPolicy,
)
from strategies.params import as_object

MAX_PAGE = 1000
MAX_ID = 2**63 - 1  # largest integer that the databases hold

T = TypeVar("T")


def plain(value: Decimal) -> str:
    """Write a decimal without exponent and without trailing zeros."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def utc_text(value: datetime) -> str:
    """Write an aware time as ISO 8601 in UTC, ending in Z."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _in_range(value: datetime) -> datetime:
    if not 1970 <= value.year <= 2200:
        raise ValueError("must lie between the years 1970 and 2200")
    return value


Amount = Annotated[Decimal, PlainSerializer(plain, return_type=str)]
UtcTime = Annotated[datetime, PlainSerializer(utc_text, return_type=str)]
# Given by callers: without zone it is refused, and so is what no database can shift to UTC.
AwareTime = Annotated[AwareDatetime, AfterValidator(_in_range)]

# Names that reach queries: anything else is refused before it is looked up.
Symbol = Annotated[str, Field(pattern=STRATEGY_SYMBOL_PATTERN, max_length=32)]
Owner = Symbol  # a strategy, or Discretionary
Filename = Annotated[str, Field(pattern=FILENAME_PATTERN, max_length=67)]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE)]
RowId = Annotated[int, Field(ge=0, le=MAX_ID)]
Override = Annotated[str, Field(max_length=400)]
Weight = Annotated[Decimal, Field(ge=0, le=1, max_digits=7, decimal_places=6)]


class ErrorDetail(Schema):
    """What went wrong: ``code`` for machines, ``message`` for a person, ``fields`` the values behind it."""

    code: str
    message: str
    fields: dict[str, Any] = {}


class ErrorOut(Schema):
    """The one shape of every error."""

    error: ErrorDetail


class Page(Schema, Generic[T]):
    """Part of a list; ``next`` is the cursor of the following part, null at the end."""

    items: list[T]
    next: str | None = None


class StrategyOut(Schema):
    """A strategy as configured."""

    symbol: str
    name: str
    description: str
    color: str
    filename: str
    kind: str
    active: bool
    min_weight: Amount
    target_weight: Amount
    max_weight: Amount
    currency: str
    params: Annotated[dict[str, Any], BeforeValidator(as_object)]
    params_revision: int
    code_hash: str
    load_error: str
    restart_policy: str
    max_restarts_per_hour: int
    connection: str
    revision: int
    is_synced: bool
    created_at: UtcTime
    updated_at: UtcTime


class ActivatedOut(StrategyOut):
    """A strategy that was activated; ``notices`` say what IB answered about its margin."""

    notices: list[str]


class OverrideIn(Schema):
    """Why a change may pass a limit of the account that it would break; for administrators."""

    override: Override = ""


class StrategySave(Schema):
    """A strategy to create or change; fields left out keep their value (or take the default of a new one).

    ``override``: why it may pass a limit of the account that it would break; for administrators.
    """

    model_config = ConfigDict(extra="forbid")

    symbol: Symbol
    filename: Filename = ""
    name: str = Field(default="", max_length=80)
    description: str = Field(default="", max_length=20_000)
    color: str = Field(default="", pattern=r"^(#[0-9a-fA-F]{6})?$")
    active: bool = False
    min_weight: Weight = Decimal(0)
    target_weight: Weight = Decimal(0)
    max_weight: Weight = Decimal(1)
    currency: str = Field(default="USD", pattern=CURRENCY_PATTERN)
    params: dict[str, Any] = {}
    restart_policy: RestartPolicy = RestartPolicy.ON_FAILURE
    max_restarts_per_hour: int = Field(default=3, ge=0, le=32_767)
    connection: ConnectionKind = ConnectionKind.OWN
    override: Override = ""


class SavedOut(Schema):
    """The saved strategy, and what the operator should know about it."""

    strategy: StrategyOut
    created: bool
    warnings: list[str]


class FileOut(Schema):
    """A strategy file found in a registered folder."""

    filename: str
    folder: str


class FileFactsOut(Schema):
    """What reading a strategy file, without running it, tells; ``params`` holds the literal defaults."""

    filename: str
    class_name: str | None
    kind: str | None
    typed_params: bool
    params: dict[str, Any]
    sha256: str
    description: str
