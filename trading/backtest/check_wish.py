"""What a person can ask of a check, checked: the same for command, API and page.

Owns: fields, bounds, a kept run as a wish. Leaves: the backtest's own fields (``wish``), doing it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strategies.exceptions import ConfigError
from trading.backtest.wish import BacktestWish, CostWish

LENGTHS = (199, 399, 499, 999, 1999)
_COSTS = tuple(CostWish.model_fields)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LookaheadWish(_Strict):
    """A check for lookahead."""

    backtest: BacktestWish
    run: int | None = Field(default=None, ge=1, description="The kept run that it belongs to.")
    trades: int = Field(default=20, ge=0, le=10_000, description="Trades that are looked at; 0: all.")
    minimum: int = Field(default=10, ge=1, le=10_000, description="With fewer trades it is inconclusive.")
    quiet: int = Field(default=10, ge=0, le=10_000, description="Moments without a signal that are looked at.")


class WarmUpWish(_Strict):
    """A check of how much warm-up is enough."""

    backtest: BacktestWish
    run: int | None = Field(default=None, ge=1, description="The kept run that it belongs to.")
    lengths: list[Annotated[int, Field(ge=1, le=1_000_000)]] = Field(
        default=list(LENGTHS), min_length=1, max_length=20, description="Bars of warm-up to compare."
    )
    tolerance: float = Field(default=0.001, gt=0, lt=1, description="Drift that is still right, a fraction.")
    watch: int = Field(default=20, ge=1, le=10_000, description="Bars whose decisions are compared.")


class ShadowWish(_Strict):
    """A live day to be replayed."""

    strategy: str = Field(min_length=1, max_length=32, description="Symbol of the strategy.")
    day: date = Field(description="Day of its exchange.")


Wish = TypeVar("Wish", bound=_Strict)


def parse_check(model: type[Wish], given: Mapping[str, Any]) -> Wish:
    """Read what somebody asked for.

    Raises: ConfigError (bad_check) with ``fields["errors"] = {place: sentence}``.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        errors = {
            ".".join(str(part) for part in one["loc"]) or "check": one["msg"].removeprefix("Value error, ")
            for one in error.errors()
        }
        text = "; ".join(f"{place}: {sentence}" for place, sentence in errors.items())
        raise ConfigError(f"The check cannot be done: {text}.", code="bad_check", errors=errors) from error


def wish_of_run(
    strategies: list[dict[str, Any]], symbols: list[str], source: str, settings: Mapping[str, Any], **period: Any
) -> dict[str, Any]:
    """Return the wish that a kept run was made of; ``period`` are interval, start and end."""
    return {
        "strategies": [
            {"file": one["file"], "name": one["name"], "params": one["params"], "cash": one["cash"]}
            for one in strategies
        ],
        "symbols": symbols,
        "source": source,
        "adjust": settings.get("adjust", "splits"),
        "costs": {name: settings[name] for name in _COSTS if name in settings},
        "warm_up_days": settings.get("warm_up_days", 0),
        "seed": settings.get("seed", 0),
        **period,
    }
