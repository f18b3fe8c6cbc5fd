"""What a sweep or a walk-forward came to, for pages, API and files: JSON-able and bounded.

Owns: the shape. Leaves: keeping it (``study_store``), searching (``sweep``, ``walk_forward``).
Shape: ``rows`` the best sets first, at most ``TABLE_ROWS``; ``failures`` the first that failed or were refused;
``surface`` the objective over one or two swept parameters, ``values[y][x]``, null where it is not known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from trading.backtest.param_space import key_of
from trading.backtest.sweep import DONE, FAILED, REFUSED, SweepResult, Trial, last_line, ranked
from trading.backtest.sweep_wish import Span, SweepWish, Values

TABLE_ROWS = 500
FAILURES = 100
MOST_SIDE = 60
_MOST_TEXT = 300
_DIGITS = 8


def sweep_as_json(wish: SweepWish, result: SweepResult) -> dict[str, Any]:
    """Return a sweep."""
    rows = [trial for trial in ranked(result.trials) if trial.state == DONE]
    return {
        "kind": "sweep",
        **asked_as_json(wish),
        **counts(result.trials, result.expected),
        "best": trial_as_json(result.best) if result.best else None,
        "reason": result.reason,
        "rows": [trial_as_json(trial) for trial in rows[:TABLE_ROWS]],
        "rows_left_out": max(0, len(rows) - TABLE_ROWS),
        "failures": failures(result.trials),
        "surface": surface(wish, rows),
        "overfitting": result.overfitting.as_json(),
        "deflated": result.deflated.as_json(),
        "cancelled": result.cancelled,
        "seconds": round(result.seconds, 3),
    }


def asked_as_json(wish: SweepWish) -> dict[str, Any]:
    """Return what was asked for, in words that a person can use again."""
    return {
        "file": wish.backtest.strategies[0].file,
        "objective": wish.objective,
        "search": wish.search,
        "seed": wish.seed,
        "min_trades": wish.min_trades,
        "params": sorted(wish.space),
        "space": {name: choice_text(wish.space[name]) for name in sorted(wish.space)},
    }


def choice_text(choice: Values | Span) -> str:
    """Return a choice in its short form."""
    if isinstance(choice, Values):
        plain = all(isinstance(value, (int, float)) for value in choice.values)
        return ",".join(json.dumps(value) for value in choice.values) if plain else json.dumps(choice.values)
    ends = f"{choice.low}:{choice.high}"
    return ends if choice.step is None else f"{ends}:{choice.step}"


def counts(trials: Sequence[Trial], expected: int) -> dict[str, int]:
    """Return how many sets there are of each state."""
    states = {state: sum(trial.state == state for trial in trials) for state in (DONE, FAILED, REFUSED)}
    return {"expected": expected, **states}


def trial_as_json(trial: Trial) -> dict[str, Any]:
    """Return a trial's row."""
    metrics = {name: _short(value) for name, value in trial.figures.metrics.items()}
    return {"number": trial.number, "params": trial.params, "value": _short(trial.value), "metrics": metrics}


def _short(value: Any) -> Any:
    """Return a figure without the digits of its rounding."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) and math.isfinite(value) else value


def failures(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return the first sets that failed or were refused, with the last line of each error."""
    lost = [trial for trial in trials if trial.state in (FAILED, REFUSED)]
    lost.sort(key=lambda one: (one.state != FAILED, one.number))
    return [
        {
            "number": trial.number,
            "params": trial.params,
            "state": trial.state,
            "error": last_line(trial.error)[:_MOST_TEXT],
        }
        for trial in lost[:FAILURES]
    ]


def surface(wish: SweepWish, rows: Sequence[Trial]) -> dict[str, Any] | None:
    """Return the objective over the values of one or two parameters; None for more, for one value, or very many."""
    names = sorted(wish.space)
    if len(names) > 2:
        return None
    sides = [_tried(name, rows) for name in names]
    if any(not 2 <= len(side) <= MOST_SIDE for side in sides):
        return None
    x, xs = names[-1], sides[-1]
    y, ys = (names[0], sides[0]) if len(names) == 2 else ("", [None])
    found = {key_of(trial.params): _short(trial.value) for trial in rows}
    values = [[found.get(key_of({x: one, **({y: other} if y else {})})) for one in xs] for other in ys]
    return {"x": x, "y": y, "xs": xs, "ys": ys, "values": values}


def _tried(name: str, rows: Sequence[Trial]) -> list[Any]:
    """Return the values of a parameter that were tried, numbers in their order."""
    found = list({key_of({name: trial.params[name]}): trial.params[name] for trial in rows}.values())
    is_number = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in found)
    return sorted(found) if is_number else found
