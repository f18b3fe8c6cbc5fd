"""Parameter sets of a sweep: the points of a grid, random draws, and what the strategy says to them.

Owns: which sets there are and in what order, refusing values that the strategy does not take.
Leaves: the wish (``sweep_wish``), choosing by what came out (``search``). Pure but for the strategy's own validators.
Rule: parameters are taken in the order of their names, so that equal wishes give equal sets wherever they were kept.
A value that is refused beside whatever else is tried is a mistake and ends the sweep before it runs; a set that is
refused only together (a fast average slower than the slow one) is listed and not run.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from strategies.exceptions import ConfigError
from strategies.params import HasParams, validate_params
from trading.backtest.sweep_wish import Span, Values

logger = logging.getLogger(__name__)

Space = Mapping[str, Values | Span]
ParamSet = dict[str, Any]
MOST_CORNERS = 2_048
_DRAWS_A_SET = 20


def key_of(params: Mapping[str, Any]) -> str:
    """Return a text that equal sets share."""
    return json.dumps(params, sort_keys=True)


def grid(space: Space) -> list[ParamSet]:
    """Return every combination, the last name's values running fastest."""
    names = sorted(space)
    return [dict(zip(names, one, strict=True)) for one in itertools.product(*(_points(space[name]) for name in names))]


def draw(space: Space, count: int, seed: int) -> list[ParamSet]:
    """Return so many different sets by chance; fewer where the space has no more."""
    rng = np.random.default_rng(seed)
    found: dict[str, ParamSet] = {}
    for _ in range(count * _DRAWS_A_SET):
        made = {name: _drawn(space[name], rng) for name in sorted(space)}
        found.setdefault(key_of(made), made)
        if len(found) == count:
            break
    return list(found.values())


def size_of(space: Space) -> int | None:
    """Return how many sets there are; None where a parameter may take any number."""
    size = 1
    for choice in space.values():
        points = choice.points()
        if points is None:
            return None
        size *= len(points)
    return size


def corners(space: Space) -> list[ParamSet]:
    """Return the sets of first and last numbers and of listed values, up to a bound: what a search is checked by."""
    names = sorted(space)
    edges = [_edges(space[name]) for name in names]
    some = itertools.islice(itertools.product(*edges), MOST_CORNERS)
    lone = (
        tuple(value if place == at else one[0] for place, one in enumerate(edges))
        for at, own in enumerate(edges)
        for value in own
    )
    found = {key_of(made): made for made in (dict(zip(names, one, strict=True)) for one in itertools.chain(some, lone))}
    return list(found.values())


def check_sets(loaded: HasParams, given: Mapping[str, Any], sets: Sequence[ParamSet]) -> list[ParamSet | str]:
    """Return for each set the strategy's complete parameters, or why it refuses the set.

    Raises: ConfigError (bad_sweep) with ``fields["errors"] = {space.name: sentence}`` for a value that is refused in
    every set that has it, and where all sets are refused.
    """
    asked = [ask(loaded, given, one) for one in sets]
    answers, refusals = [answer for answer, _ in asked], [refused for _, refused in asked]
    errors = _always_refused(sets, refusals)
    if not errors and all(isinstance(answer, str) for answer in answers):
        errors = {"space": f"The strategy refuses every set. The first: {answers[0]}"}
    if errors:
        text = " ".join(f"{place}: {sentence}" for place, sentence in errors.items())
        raise ConfigError(f"The parameters cannot be swept: {text}", code="bad_sweep", errors=errors)
    return answers


def ask(loaded: HasParams, given: Mapping[str, Any], one: ParamSet) -> tuple[ParamSet | str, Mapping[str, str]]:
    """Return the strategy's complete parameters, or why it refuses them, and the refusal by parameter."""
    try:
        return validate_params(loaded, {**given, **one}), {}
    except ConfigError as error:
        refused: Mapping[str, str] = error.fields["errors"]
        return "; ".join(_named(name, text) for name, text in refused.items()), refused
    except Exception as error:  # the border of user code: a validator of the file failed at this set
        logger.warning("a strategy's validator failed params=%s", one, exc_info=True)
        text = f"Its validator failed: {type(error).__name__}: {error}"
        return text, {"__all__": text}


def _always_refused(sets: Sequence[ParamSet], refusals: Sequence[Mapping[str, str]]) -> dict[str, str]:
    errors: dict[str, str] = {}
    fixed = set(refusals[0]) - set(sets[0]) - {"__all__"} if refusals else set()
    for name in sorted(fixed):
        if all(name in refused for refused in refusals):
            errors[f"backtest.strategies.0.params.{name}"] = refusals[0][name]
    for name in sets[0] if sets else ():
        accepted = {key_of(one[name]) for one, refused in zip(sets, refusals, strict=True) if name not in refused}
        for one, refused in zip(sets, refusals, strict=True):
            if name in refused and key_of(one[name]) not in accepted:
                sentence = refused[name] if refused[name] == "Unknown parameter." else f"{one[name]!r}: {refused[name]}"
                errors.setdefault(f"space.{name}", sentence)
    return errors


def _named(name: str, text: str) -> str:
    return text if name == "__all__" else f"{name}: {text}"


def _points(choice: Values | Span) -> list[Any]:
    points = choice.points()
    if points is None:
        raise ConfigError("A grid needs a step.", code="bad_sweep")
    return points


def _edges(choice: Values | Span) -> list[Any]:
    if isinstance(choice, Values):
        return choice.points()
    points = choice.points() or [choice.low, choice.high]
    ends = [points[0], points[-1]]
    return ends[:1] if ends[0] == ends[1] else ends


def _drawn(choice: Values | Span, rng: np.random.Generator) -> Any:
    points = choice.points()
    if points is not None:
        return points[int(rng.integers(len(points)))]
    assert isinstance(choice, Span)  # noqa: S101 - values can be listed
    if choice.is_whole:
        return int(rng.integers(int(choice.low), int(choice.high) + 1))
    return float(rng.uniform(choice.low, choice.high))
