"""Typed strategy parameters: the fields every strategy has, and one way to check what an operator typed.

A strategy file either subclasses ``BaseParams`` as ``Params`` (typed: bounds, descriptions, a form of its own), or has
a plain dict ``PARAMS`` (checked against the types of its defaults). Either way a complete JSON-able dict comes out.
Units: every fraction is of 1, never percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Protocol

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from strategies.exceptions import ConfigError

ROW_FIELDS = ("min_weight", "target_weight", "max_weight", "currency")
"""Fields that the strategy's row decides; the params only mirror them."""


class BaseParams(BaseModel):
    """What every strategy can be told; subclass it as ``Params`` and add your own fields."""

    model_config = ConfigDict(extra="forbid", validate_default=True, populate_by_name=True)

    universe: str = Field(
        default="",
        max_length=4000,
        title="Universe",
        description="One symbol, a comma-separated list, an ArcticDB library, or library/symbol with a Symbol column.",
    )
    min_weight: float = Field(
        default=0.0, ge=0, le=1, description="Lower bound of the allocation, fraction of the account."
    )
    max_weight: float = Field(
        default=1.0, ge=0, le=1, description="Upper bound of the allocation, fraction of the account."
    )
    target_weight: float = Field(default=0.0, ge=0, le=1, description="Target allocation, fraction of the account.")
    currency: str = Field(
        default="USD", pattern=r"^[A-Z]{3}$", description="Currency the strategy is measured in, ISO 4217."
    )
    max_position_size: float = Field(
        default=1.0,
        gt=0,
        le=1,
        title="Max position size",
        description="Largest position, fraction of the strategy's equity.",
    )
    risk_per_trade: float = Field(
        default=0.01,
        gt=0,
        le=1,
        title="Risk per trade",
        description="Equity risked to the stop by one trade, fraction.",
    )
    max_daily_loss: float | None = Field(
        default=None,
        gt=0,
        le=1,
        title="Max daily loss",
        description="No new orders after losing this fraction of equity today; empty means no limit.",
    )
    max_daily_trades: int | None = Field(
        default=None, ge=1, title="Max daily trades", description="Orders allowed per day; empty means no limit."
    )
    stop_loss: float = Field(
        default=0.07, gt=0, le=1, title="Stop loss", description="Initial stop, fraction below (above) the entry price."
    )
    trailing_stop_loss: float = Field(
        default=0.20,
        gt=0,
        le=1,
        title="Trailing stop",
        description="Trailing stop once in profit, fraction of the price.",
    )
    take_profit: float = Field(
        default=0.35,
        gt=0,
        title="Take profit",
        description="Gain at which the position is closed, fraction of the entry price.",
        validation_alias=AliasChoices("take_profit", "profit_target"),
    )


Ticker = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9. ]{0,11}$")]


class ReactiveParams(BaseParams):
    """What every reactive strategy can be told beside: what it follows, and where its signals stop.

    Units: ``min_quality`` per cent; amounts in the strategy's currency; None is no limit of its own, those of the
    account hold always.
    """

    symbols: list[Ticker] = Field(default_factory=list, max_length=200, description="Tickers that it follows.")
    min_quality: float = Field(
        default=95.0,
        ge=0,
        le=100,
        title="Minimum quality",
        description="Signals on bars that are less complete, in per cent of today's, are not traded.",
    )
    max_quantity: float | None = Field(
        default=None, gt=0, title="Max quantity", description="Most units in one order; empty means no limit."
    )
    allow_short: bool = Field(default=False, title="Shorts", description="SELL from flat opens a short position.")
    regular_hours: bool = Field(
        default=True,
        title="Regular hours",
        description="Bars and orders of the exchange's regular session only. Off: of all hours that IB sends.",
    )
    allow_repeats: bool = Field(
        default=False, title="Repeats", description="Trade a signal also while an order of its symbol is working."
    )
    max_buying_power: float | None = Field(
        default=None, gt=0, title="Max buying power", description="Most money in all positions and orders together."
    )
    max_per_trade: float | None = Field(
        default=None, gt=0, title="Max per trade", description="Most money in one order that opens or enlarges."
    )
    max_per_symbol: float | None = Field(
        default=None, gt=0, title="Max per symbol", description="Most money in one symbol."
    )
    max_open_positions: int | None = Field(
        default=None, ge=1, title="Max open positions", description="Most symbols held at a time."
    )


def gate_defaults() -> dict[str, Any]:
    """Return the limits of signals that every reactive strategy has, with their defaults."""
    own = set(ReactiveParams.model_fields) - set(BaseParams.model_fields) - {"symbols"}
    return ReactiveParams().model_dump(mode="json", include=own)


PARAMS: dict[str, Any] = BaseParams().model_dump(mode="json")
"""The base fields with their defaults, for files that extend a plain dict."""


def as_object(stored: object) -> dict[str, Any]:
    """Return stored parameters for showing; what is no object, edited past every form, stands whole under «params»."""
    return dict(stored) if isinstance(stored, Mapping) else {"params": stored}


class HasParams(Protocol):
    """What ``validate_params`` needs of a loaded file."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Return the file's PARAMS."""

    @property
    def params_model(self) -> type[BaseModel] | None:
        """Return the file's typed Params, if it has them."""


def validate_params(loaded: HasParams, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the complete parameters: what was given over the file's defaults, checked.

    Raises: ConfigError (code bad_params) with ``fields["errors"] = {parameter: sentence}``.
    """
    if loaded.params_model is not None:
        return _validate_model(loaded.params_model, given)
    return _validate_plain(loaded.params, given)


def _validate_model(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return model.model_validate(dict(given)).model_dump(mode="json")
    except ValidationError as error:
        raise _config_error(_sentences(error)) from error


def _validate_plain(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**defaults, **given}
    errors = {name: "Unknown parameter." for name in given if name not in defaults and name not in _base_names()}
    base = {name: value for name, value in merged.items() if name in _base_names()}
    try:
        checked = BaseParams.model_validate(base).model_dump(mode="json")
    except ValidationError as error:
        errors |= _sentences(error)
        checked = {}
    for name, value in merged.items():
        if name not in _base_names() and name not in errors and not _same_type(defaults[name], value):
            errors[name] = f"Give {_article(defaults[name])}, not {_article(value)}."
    if errors:
        raise _config_error(errors)
    return {**{name: value for name, value in merged.items() if name not in _base_names()}, **checked}


def _base_names() -> frozenset[str]:
    return frozenset(BaseParams.model_fields) | {"profit_target"}


def _same_type(default: Any, value: Any) -> bool:
    if default is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):  # bool is an int in Python; a switch is not a number
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, (int, float)):
        return isinstance(value, int) or (isinstance(default, float) and isinstance(value, float))
    return isinstance(value, type(default))


def _article(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "nothing" if value is None else "an object")


def _sentences(error: ValidationError) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False):
        name = str(item["loc"][0]) if item["loc"] else "__all__"
        where = ".".join(str(part) for part in item["loc"][1:])
        text = "Unknown parameter." if item["type"] == "extra_forbidden" else item["msg"].removeprefix("Value error, ")
        sentence = f"{where}: {text}" if where else text
        found[name] = f"{found[name]} {sentence}" if name in found else sentence
    return found


def _config_error(errors: Mapping[str, str]) -> ConfigError:
    listed = "; ".join(text if name == "__all__" else f"{name}: {text}" for name, text in errors.items())
    return ConfigError(f"The parameters are not valid: {listed}", code="bad_params", errors=dict(errors))
