"""What a person may ask of a backtest, and what is refused with its place."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from strategies.exceptions import ConfigError
from trading.backtest.wish import parse_wish

WISH: dict[str, Any] = {
    "strategies": [{"file": "simple_ma_cross.py"}],
    "symbols": ["AAPL"],
    "start": "2012-01-03",
    "end": "2012-12-31",
}


def errors_of(**changes: Any) -> dict[str, str]:
    """Return what is refused, by place."""
    with pytest.raises(ConfigError) as refusal:
        parse_wish({**WISH, **changes})
    assert refusal.value.code == "bad_backtest"
    found: dict[str, str] = refusal.value.fields["errors"]
    return found


def test_days_become_the_first_and_last_moment_and_costs_have_defaults() -> None:
    wish = parse_wish(WISH)
    assert wish.start == datetime(2012, 1, 3, tzinfo=UTC)
    assert wish.end == datetime(2012, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert (wish.costs.fees, wish.costs.slippage_bps, wish.strategies[0].cash) == (
        "fixed",
        Decimal(0),
        Decimal(100_000),
    )


def test_a_moment_keeps_its_zone_and_a_naive_one_is_refused() -> None:
    assert parse_wish({**WISH, "start": "2012-01-03T09:30-05:00"}).start == datetime(2012, 1, 3, 14, 30, tzinfo=UTC)
    assert "needs its zone" in errors_of(start="2012-01-03T09:30")["start"]


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ({"end": "2011-01-01"}, "backtest", "before it starts"),
        ({"interval": "1h"}, "interval", "no bar interval"),
        ({"symbols": ["../etc"]}, "symbols.0", "pattern"),
        ({"strategies": []}, "strategies", "at least 1"),
        ({"strategies": [{"file": "a.py"}, {"file": "a.py"}]}, "backtest", "names of their own"),
        ({"strategies": [{"file": "a.py", "cash": 0.1}]}, "strategies.0.cash", "text or as a whole number"),
        ({"costs": {"fees": "free"}}, "costs.fees", "fixed"),
        ({"leverage": 2}, "leverage", "not permitted"),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(changes: dict[str, Any], place: str, words: str) -> None:
    assert words in errors_of(**changes)[place]
