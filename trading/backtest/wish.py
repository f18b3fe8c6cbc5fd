"""What a person can ask of a backtest, checked: the same for command, API and page.

Owns: fields, bounds, messages. Leaves: making a spec of it (``launch``). Pure.
Rule: an unknown key is refused with its place. Money is text or a whole number, never a float. Units: fractions of 1,
slippage in basis points of the price, times of day in UTC; a bare end date means its last moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from strategies.exceptions import ConfigError
from strategies.intervals import parse_interval

MARKET_DATA, SAMPLE, PARQUET = "market_data", "sample", "parquet:"
NAME = r"^[A-Za-z][A-Za-z0-9_]{0,31}$"
SYMBOL = r"^[A-Z0-9][A-Z0-9. ]{0,11}$"


def _moment(value: Any, *, is_end: bool) -> Any:
    if isinstance(value, str):
        text = value.strip()
        is_day = len(text) <= len("2020-01-31")
        value = date.fromisoformat(text) if is_day else datetime.fromisoformat(text)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a time of day needs its zone, such as 2020-01-31T15:30Z")
        return value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time.max if is_end else time.min, UTC)
    return value


def _no_float(value: Any) -> Any:
    if isinstance(value, float):
        raise ValueError("write money as text or as a whole number")  # noqa: TRY004 - pydantic shows ValueErrors
    return value


Money = Annotated[Decimal, BeforeValidator(_no_float)]
Start = Annotated[datetime, BeforeValidator(lambda value: _moment(value, is_end=False))]
End = Annotated[datetime, BeforeValidator(lambda value: _moment(value, is_end=True))]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StrategyWish(_Strict):
    """One strategy of a run."""

    file: str = Field(max_length=80, description="File of a registered folder, such as simple_ma_cross.py.")
    name: str = Field(default="", pattern=NAME + "|^$", description="Its name in the run; empty: the file's.")
    params: dict[str, Any] = Field(default_factory=dict, description="Parameters over the file's defaults.")
    cash: Money = Field(default=Decimal(100_000), gt=0, description="Money that it starts with.")


class CostWish(_Strict):
    """What trading costs."""

    fees: Literal["fixed", "tiered", "none"] = Field(default="fixed", description="IB's plan.")
    slippage_bps: Money = Field(default=Decimal(0), ge=0, le=1000, description="Worse by so many hundredths of a %.")
    half_spread: Money = Field(default=Decimal(0), ge=0, description="Half of bid-ask, in the price's currency.")
    tick: Money | None = Field(default=None, gt=0, description="Step of prices that orders may have; null: any price.")
    participation: Money | None = Field(
        default=Decimal(1), gt=0, le=1, description="Share of a bar's volume; null: any."
    )
    allow_short: bool = Field(default=True, description="Whether SELL from flat is filled.")
    check_cash: bool = Field(default=True, description="Whether what cash does not pay for is denied.")


class BacktestWish(_Strict):
    """A whole run."""

    strategies: list[StrategyWish] = Field(min_length=1, max_length=98)
    symbols: list[Annotated[str, Field(pattern=SYMBOL)]] = Field(
        default_factory=list, max_length=5000, description="Instruments; empty: those of the strategies' parameters."
    )
    interval: str = Field(default="", description="Base interval; empty: the finest that a strategy subscribes to.")
    start: Start = Field(description="First moment traded.")
    end: End = Field(description="Last moment traded.")
    source: str = Field(default="market_data", max_length=200, description="market_data, sample, or parquet:PATH.")
    adjust: Literal["none", "splits", "all"] = Field(default="splits", description="What prices are adjusted for.")
    costs: CostWish = Field(default_factory=CostWish)
    warm_up_days: int = Field(default=0, ge=0, le=3650, description="Days before the start that strategies may see.")
    seed: int = Field(default=0, ge=0)
    description: str = Field(default="", max_length=60, pattern=r"^[A-Za-z0-9_-]*$", description="Ends the run's name.")

    @field_validator("interval")
    @classmethod
    def known_interval(cls, text: str) -> str:
        """Refuse what is no interval."""
        if text:
            try:
                parse_interval(text)
            except ConfigError as error:
                raise ValueError(error.message) from error
        return text

    @model_validator(mode="after")
    def in_order(self) -> BacktestWish:
        """Refuse a period that ends before it starts, and names that come twice."""
        if self.end <= self.start:
            raise ValueError(f"the run would end at {self.end:%Y-%m-%d %H:%M}, before it starts")
        names = [one.name or one.file.removesuffix(".py") for one in self.strategies]
        if len(set(names)) < len(names):
            raise ValueError(f"strategies of one run need names of their own: {', '.join(names)}")
        return self


def parse_wish(given: Mapping[str, Any]) -> BacktestWish:
    """Read what somebody asked for.

    Raises: ConfigError (bad_backtest) with ``fields["errors"] = {place: sentence}``.
    """
    try:
        return BacktestWish.model_validate(dict(given))
    except ValidationError as error:
        errors = {
            ".".join(str(part) for part in one["loc"]) or "backtest": one["msg"].removeprefix("Value error, ")
            for one in error.errors()
        }
        text = "; ".join(f"{place}: {sentence}" for place, sentence in errors.items())
        raise ConfigError(f"The backtest cannot be run: {text}.", code="bad_backtest", errors=errors) from error
