"""Windows of a walk-forward: no day is traded twice or searched in by what trades it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.exceptions import ConfigError
from trading.backtest.windows import Window, windows_of

START = datetime(2000, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def made(days: int, inside: int, outside: int, anchored: bool = False, most: int = 10_000) -> list[Window]:
    return windows_of(
        START,
        START + timedelta(days=days) - TICK,
        in_sample_days=inside,
        out_of_sample_days=outside,
        anchored=anchored,
        most=most,
    )


@given(st.integers(2, 5_000), st.integers(1, 1_000), st.integers(1, 400), st.booleans())
def test_parts_follow_each_other_without_gap_or_overlap(days: int, inside: int, outside: int, anchored: bool) -> None:
    if inside >= days:
        with pytest.raises(ConfigError, match="leave none to trade"):
            made(days, inside, outside, anchored)
        return
    windows = made(days, inside, outside, anchored)
    assert windows[0].trade_start == START + timedelta(days=inside)
    assert windows[-1].trade_end == START + timedelta(days=days) - TICK
    for before, after in itertools.pairwise(windows):
        assert before.trade_end + TICK == after.trade_start
    for window in windows:
        assert START <= window.start < window.end
        assert window.end + TICK == window.trade_start
        assert window.trade_start <= window.trade_end
        searched = window.trade_start - window.start
        assert window.start == START if anchored else searched == timedelta(days=inside)


def test_more_windows_than_the_most_are_refused() -> None:
    with pytest.raises(ConfigError, match="more than 3"):
        made(100, 10, 10, most=3)
