"""What an indicator is: its name, its parameters, how long it warms up, its formula.

Owns: descriptions and the checks of a request against them. Leaves: the list of all (``registry``). Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from strategies.exceptions import ConfigError
from strategies.intervals import Interval
from trading.market.indicators.sites import Number
from trading.market.indicators.tools import Tools

Params = Mapping[str, Any]
Formula = Callable[[Tools, int, Params], tuple[Number, ...]]
WarmUp = Callable[[int, Params], int]

MAX_PERIOD = 5000
PRICE, OWN, VOLUME = "price", "own", "volume"
"""Panes of a chart: over the prices, under them, with the volume."""


@dataclass(frozen=True, slots=True)
class Period:
    """The period of an indicator in bars: which is usual, which is the least that means something."""

    usual: int
    least: int = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """A parameter that is one of some words; the first is usual."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spec:
    """One indicator.

    ``params``: further parameters with their defaults: a whole number is a count of bars, a decimal number a factor.
    ``outputs``: names of its columns, the main one first. ``warm_up``: bars up to the first value, that bar included.
    ``text``: its definition in a line. ``intraday_only``: means nothing on days and weeks. ``historical``: a figure of
    the days before, usually of daily bars.
    """

    name: str
    title: str
    kind: str
    pane: str
    text: str
    formula: Formula
    warm_up: WarmUp
    period: Period | None = None
    params: Mapping[str, int | float | Choice] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("value",)
    intraday_only: bool = False
    historical: bool = False

    def checked_period(self, period: int) -> int:
        """Return a period that fits.

        Raises: ConfigError (bad_indicator).
        """
        if self.period is None:
            if period:
                raise self.error(f"takes no period, but was given {period}")
            return 0
        if not isinstance(period, int) or isinstance(period, bool) or not self.period.least <= period <= MAX_PERIOD:
            raise self.error(
                f"needs a period of {self.period.least} to {MAX_PERIOD} bars, usually {self.period.usual}, "
                f"not {period!r}"
            )
        return period

    def checked_params(self, given: Params) -> dict[str, Any]:
        """Return all parameters, defaults where none was given.

        Raises: ConfigError (bad_indicator).
        """
        unknown = sorted(set(given) - set(self.params))
        if unknown:
            raise self.error(
                f"has no parameter {', '.join(unknown)}; it knows {', '.join(self.params) or 'none but its period'}"
            )
        return {name: self._param(name, default, given.get(name)) for name, default in self.params.items()}

    def _param(self, name: str, default: int | float | Choice, value: Any) -> Any:
        if isinstance(default, Choice):
            if value is not None and value not in default.words:
                raise self.error(f"knows {name} {', '.join(default.words)}, not {value!r}")
            return default.words[0] if value is None else value
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise self.error(f"needs {name} to be a number above 0, not {value!r}")
        if isinstance(default, int):
            if value != int(value) or value > MAX_PERIOD:
                raise self.error(f"counts {name} in bars, up to {MAX_PERIOD}, so {value!r} will not do")
            return int(value)
        return float(value)

    def check_interval(self, interval: Interval) -> None:
        """Refuse bars that the indicator means nothing on.

        Raises: ConfigError (bad_indicator).
        """
        if self.intraday_only and not interval.is_intraday:
            raise self.error(f"is of the bars within a session; {interval.text} bars are longer")

    def error(self, text: str) -> ConfigError:
        """Return an error that names the indicator."""
        return ConfigError(f"Indicator {self.name} {text}.", code="bad_indicator", indicator=self.name)
