"""What a person can ask of a parameter sweep or a walk-forward, checked: the same for command, API and page.

Owns: fields, bounds, messages, the short form ``5:20:5`` of a range. Leaves: the points (``param_space``), what the
strategy says to them (``param_space.check_sets``), running (``sweep``, ``walk_forward``). Pure.
Rule: an unknown key is refused with its place. A range of whole numbers gives whole numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from strategies.exceptions import ConfigError
from trading.backtest.wish import BacktestWish

MOST_TRIALS = 5_000
MOST_PARAMETERS = 12
MOST_WORKERS = 64
MOST_WINDOWS = 200
PARAMETER = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
OBJECTIVES = (
    "sharpe",
    "sortino",
    "calmar",
    "cagr",
    "total_return",
    "profit",
    "profit_factor",
    "win_rate",
    "max_drawdown",
)
Objective = Literal[
    "sharpe", "sortino", "calmar", "cagr", "total_return", "profit", "profit_factor", "win_rate", "max_drawdown"
]
Number = StrictInt | StrictFloat
Wish = TypeVar("Wish", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Values(_Strict):
    """The values themselves, of any JSON kind."""

    values: list[Any] = Field(min_length=1, max_length=1_000, description="Values, each tried.")

    @field_validator("values")
    @classmethod
    def told_apart(cls, values: list[Any]) -> list[Any]:
        """Refuse a value that comes twice: its runs would count as two."""
        texts = [json.dumps(value, sort_keys=True) for value in values]
        again = next((text for text in texts if texts.count(text) > 1), None)
        if again is not None:
            raise ValueError(f"{again} comes twice")
        return values

    def points(self) -> list[Any]:
        """Return the values."""
        return list(self.values)


class Span(_Strict):
    """Numbers from ``low`` to ``high``, both inside where steps meet them; without ``step`` any number between."""

    low: Number
    high: Number
    step: Number | None = None

    @model_validator(mode="after")
    def in_order(self) -> Span:
        """Refuse what gives no points."""
        for value in (self.low, self.high, self.step):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{value} is no finite number")
        if self.high < self.low:
            raise ValueError(f"it would end at {self.high}, before it begins at {self.low}")
        if self.step is not None and self.step <= 0:
            raise ValueError("the step must be above 0")
        if self.step is not None and (self.high - self.low) / self.step >= MOST_TRIALS:
            raise ValueError(f"it has more than {MOST_TRIALS} points")
        return self

    @property
    def is_whole(self) -> bool:
        """Tell whether its points are whole numbers."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step) if value is not None)

    def points(self) -> list[Any] | None:
        """Return its points; None where there are too many to list: no step, and not whole or very wide."""
        if self.step is None and (not self.is_whole or self.high - self.low >= MOST_TRIALS):
            return None
        if self.is_whole:
            return list(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        low, high, step = (Decimal(str(value)) for value in (self.low, self.high, self.step))
        return [float(low + step * number) for number in range(int((high - low) / step) + 1)]


def read_choice(text: str) -> Any:
    """Return the long form of ``5:20:5``, ``5:20`` or ``1d,5m``; a JSON list stands for its values.

    Raises: ValueError.
    """
    text = text.strip()
    if text.startswith("["):
        return {"values": json.loads(text)}
    parts = text.split(":")
    if len(parts) in (2, 3):
        numbers = [_number(part) for part in parts]
        if None in numbers:
            raise ValueError("a range is written first:last:step, in numbers")
        return {"low": numbers[0], "high": numbers[1], "step": numbers[2] if len(numbers) > 2 else None}
    if len(parts) > 1:
        raise ValueError("a range is written first:last:step")
    return {"values": [_value(part) for part in text.split(",")]}


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return None


def _value(text: str) -> Any:
    text = text.strip()
    if not text:
        raise ValueError("a value is missing between commas")
    if text in ("true", "false"):
        return text == "true"
    number = _number(text)
    return text if number is None or not math.isfinite(number) else number


def _long_form(value: Any) -> Any:
    if isinstance(value, str):
        return read_choice(value)
    return {"values": value} if isinstance(value, list) else value


def _kind(value: Any) -> Any:
    """Read one parameter's choice, so that a mistake is told of the form that was meant."""
    value = _long_form(value)
    if isinstance(value, (Values, Span)) or not isinstance(value, Mapping):
        return value
    try:
        return Values.model_validate(value) if "values" in value else Span.model_validate(value)
    except ValidationError as error:
        raise ValueError("; ".join(_sentence(one) for one in error.errors())) from error


def _sentence(one: Any) -> str:
    place = ".".join(str(part) for part in one["loc"] if part not in ("int", "float"))
    text = str(one["msg"]).removeprefix("Value error, ")
    return f"{place}: {text}" if place else text


Choice = Annotated[Values | Span, BeforeValidator(_kind)]


class SweepWish(_Strict):
    """One strategy over one period with many parameter sets."""

    backtest: BacktestWish = Field(description="The run that each set is tried in; its one strategy is swept.")
    space: dict[Annotated[str, Field(pattern=PARAMETER)], Choice] = Field(
        min_length=1, max_length=MOST_PARAMETERS, description="Parameters and the values that they take."
    )
    search: Literal["grid", "random", "tpe"] = Field(default="grid", description="How sets are chosen.")
    trials: int = Field(default=100, ge=1, le=MOST_TRIALS, description="Sets of a random or TPE search.")
    objective: Objective = Field(default="sharpe", description="The figure that is to be high.")
    min_trades: int = Field(default=0, ge=0, le=100_000, description="Sets with fewer closed trades are not ranked.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Of random and TPE searches.")
    workers: int | None = Field(
        default=None, ge=0, le=MOST_WORKERS, description="Processes; 0: in this one; null: one a core."
    )

    @model_validator(mode="after")
    def one_strategy(self) -> SweepWish:
        """Refuse several strategies, parameters given twice, grids that cannot be listed or are too large."""
        if len(self.backtest.strategies) != 1:
            raise ValueError("a sweep is of one strategy")
        twice = sorted(set(self.space) & set(self.backtest.strategies[0].params))
        if twice:
            raise ValueError(f"{', '.join(twice)}: both fixed and swept")
        if self.search == "grid":
            self._check_grid()
        return self

    def _check_grid(self) -> None:
        size = 1
        for name, choice in self.space.items():
            points = choice.points()
            if points is None:
                raise ValueError(f"{name}: a grid needs a step; without one search by random or tpe")
            size *= len(points)
        if size > MOST_TRIALS:
            raise ValueError(
                f"the grid has {size} points, more than {MOST_TRIALS}; take larger steps, or random or tpe"
            )


class WalkForwardWish(SweepWish):
    """A sweep in each window of the past, its best set tried on the days after the window."""

    in_sample_days: int = Field(ge=1, le=36_500, description="Calendar days to search in; anchored: of the first.")
    out_of_sample_days: int = Field(ge=1, le=36_500, description="Calendar days that a best set trades.")
    anchored: bool = Field(default=False, description="Whether every window begins with the period.")


def parse_sweep(given: Mapping[str, Any]) -> SweepWish:
    """Read what somebody asked for.

    Raises: ConfigError (bad_sweep) with ``fields["errors"] = {place: sentence}``.
    """
    return _parse(SweepWish, given, "sweep")


def parse_walk_forward(given: Mapping[str, Any]) -> WalkForwardWish:
    """Read what somebody asked for.

    Raises: ConfigError (bad_sweep) with ``fields["errors"] = {place: sentence}``.
    """
    return _parse(WalkForwardWish, given, "walk-forward")


def _parse(model: type[Wish], given: Mapping[str, Any], what: str) -> Wish:
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        errors = {
            ".".join(str(part) for part in one["loc"]) or what: one["msg"].removeprefix("Value error, ")
            for one in error.errors()
        }
        text = "; ".join(f"{place}: {sentence}" for place, sentence in errors.items())
        raise ConfigError(f"The {what} cannot be run: {text}.", code="bad_sweep", errors=errors) from error
