"""All indicators by name, and requests for one of them.

Owns: the list, the key of a request, the table of docs/indicators.md. Leaves: descriptions (``trend`` and its
neighbours), computing (``indicator``). Pure.
Rule: one key is one indicator of a pair; two requests with the same key are an error, whatever their parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from strategies.exceptions import ConfigError
from strategies.intervals import Interval, parse_interval
from trading.market.indicators import history, levels, momentum, trend, volatility, volume
from trading.market.indicators.spec import Choice, Spec

REGISTRY: Mapping[str, Spec] = {
    spec.name: spec for module in (trend, momentum, volatility, volume, levels, history) for spec in module.SPECS
}
_UNITS = {"days": "1d", "weeks": "1w", "bars": None}


def spec_of(name: str) -> Spec:
    """Return an indicator's description.

    Raises: ConfigError (unknown_indicator) that lists the known ones.
    """
    found = REGISTRY.get(name)
    if found is None:
        raise ConfigError(
            f"There is no indicator {name!r}; known are {', '.join(sorted(REGISTRY))}.",
            code="unknown_indicator",
            indicator=str(name),
        )
    return found


@dataclass(frozen=True, slots=True)
class Request:
    """One indicator of bars of one interval, with all its parameters, checked. Make it with ``make_request``."""

    spec: Spec
    interval: Interval
    period: int
    params: tuple[tuple[str, Any], ...]

    @property
    def key(self) -> str:
        """Return its name in a session: ``sma_20_5m``; without a period ``vwap_1m``."""
        return key_of(self.spec.name, self.period, self.interval.text)

    @property
    def warm_up(self) -> int:
        """Return how many bars it takes up to the first value, that bar included."""
        return self.spec.warm_up(self.period, dict(self.params))


def key_of(name: str, period: int, interval: str) -> str:
    """Return ``name_period_interval``, or ``name_interval`` for period 0."""
    return f"{name}_{period}_{interval}" if period else f"{name}_{interval}"


def make_request(
    name: str, interval: str, period: int = 0, params: Mapping[str, Any] | None = None, *, unit: str | None = None
) -> Request:
    """Check a wish for an indicator.

    ``unit`` says what the period of a historical figure counts: days and weeks read such bars, bars those of
    ``interval``.
    Raises: ConfigError (unknown_indicator, unknown_interval, bad_indicator).
    """
    spec = spec_of(name)
    if unit is not None and unit not in _UNITS:
        raise spec.error(f"counts its period in {', '.join(_UNITS)}, not {unit!r}")
    length = parse_interval(_UNITS.get(unit or "bars") or interval)
    spec.check_interval(length)
    checked = spec.checked_params(params or {})
    return Request(spec, length, spec.checked_period(period), tuple(sorted(checked.items())))


def check_unique(requests: Iterable[Request]) -> None:
    """Refuse two requests under one key.

    Raises: ConfigError (duplicate_indicator) that names it.
    """
    seen: set[str] = set()
    for request in requests:
        if request.key in seen:
            raise ConfigError(
                f"Indicator {request.key} is declared twice.", code="duplicate_indicator", key=request.key
            )
        seen.add(request.key)


def markdown_table() -> str:
    """Return the table of docs/indicators.md."""
    lines = [
        "| name | period | parameters | outputs | warm-up, bars | pane | definition |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{spec.name}` | {spec.period.usual if spec.period else '–'} | {_params(spec)} | "
        f"{', '.join(spec.outputs) if len(spec.outputs) > 1 else '–'} | {_warm_up(spec)} | {spec.pane} | "
        f"{spec.title}. {spec.text} |"
        for spec in REGISTRY.values()
    ]
    return "\n".join(lines) + "\n"


def _params(spec: Spec) -> str:
    words = [
        f"{name}={'/'.join(value.words) if isinstance(value, Choice) else value}" for name, value in spec.params.items()
    ]
    return ", ".join(words) or "–"


def _warm_up(spec: Spec) -> str:
    period = spec.period.usual if spec.period else 0
    return str(spec.warm_up(period, spec.checked_params({})))


if __name__ == "__main__":
    print(markdown_table(), end="")  # noqa: T201 - how the page's table is made
