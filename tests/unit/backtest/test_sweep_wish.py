"""What a person can ask of a sweep: short forms of ranges, and mistakes told with their place."""

from __future__ import annotations

from typing import Any

import pytest

from strategies.exceptions import ConfigError
from trading.backtest.param_space import corners, draw, grid
from trading.backtest.sweep_wish import SweepWish, parse_sweep, parse_walk_forward

BACKTEST = {"strategies": [{"file": "a.py", "params": {"fixed": 1}}], "start": "2020-01-01", "end": "2021-01-01"}


def wish(space: dict[str, Any], **changes: Any) -> SweepWish:
    return parse_sweep({"backtest": BACKTEST, "space": space, **changes})


@pytest.mark.parametrize(
    ("given", "points"),
    [
        ("5:20:5", [5, 10, 15, 20]),
        ("5:19:5", [5, 10, 15]),
        ("1:3", [1, 2, 3]),
        ("0.1:0.3:0.1", [0.1, 0.2, 0.3]),
        ("1d, 5m", ["1d", "5m"]),
        ("true,false", [True, False]),
        ('["a,b", null]', ["a,b", None]),
        ([1, 2.5], [1, 2.5]),
        ({"low": 2, "high": 4}, [2, 3, 4]),
        ({"values": [[1], [2]]}, [[1], [2]]),
    ],
)
def test_short_and_long_forms_mean_their_points(given: Any, points: list[Any]) -> None:
    assert wish({"a": given}).space["a"].points() == points


@pytest.mark.parametrize(
    ("space", "changes", "words"),
    [
        ({"a": "9:1"}, {}, "before it begins"),
        ({"a": "1:9:0"}, {}, "above 0"),
        ({"a": "1:x"}, {}, "first:last:step"),
        ({"a": "1,,2"}, {}, "missing between commas"),
        ({"a": "1,2,1"}, {}, "comes twice"),
        ({"a": "0.0:1.0"}, {}, "a grid needs a step"),
        ({"a": "1:5000", "b": "1:2"}, {}, "10000 points, more than 5000"),
        ({"fixed": "1,2"}, {}, "both fixed and swept"),
        ({"a b": "1,2"}, {}, "pattern"),
        ({}, {}, "at least 1"),
        ({"a": "1,2"}, {"workers": 65}, "less than or equal to 64"),
        ({"a": "1,2"}, {"objective": "luck"}, "sharpe"),
        ({"a": "1,2"}, {"depth": 3}, "not permitted"),
        ({"a": "0.0:1.0"}, {"search": "tpe", "trials": 0}, "greater than or equal to 1"),
    ],
)
def test_a_mistake_is_told_with_its_place(space: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        wish(space, **changes)
    assert caught.value.code == "bad_sweep"
    assert words in " ".join(caught.value.fields["errors"].values())


def test_a_walk_forward_needs_its_windows() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_walk_forward({"backtest": BACKTEST, "space": {"a": "1,2"}, "in_sample_days": 0})
    assert set(caught.value.fields["errors"]) == {"in_sample_days", "out_of_sample_days"}


def test_a_grid_is_every_combination_in_one_order() -> None:
    space = wish({"b": "1,2", "a": "x,y"}).space
    assert grid(space) == [{"a": a, "b": b} for a in "xy" for b in (1, 2)]


def test_draws_are_told_apart_repeatable_and_no_more_than_there_are() -> None:
    space = wish({"a": "1:3", "b": "0.0:1.0"}, search="random").space
    first = draw(space, 50, seed=7)
    assert first == draw(space, 50, seed=7) != draw(space, 50, seed=8)
    assert all(one["a"] in (1, 2, 3) and 0 <= one["b"] <= 1 for one in first)
    assert len(draw(wish({"a": "1:3"}).space, 50, seed=1)) == 3
    assert {"a": 1, "b": 0.0} in corners(space)
