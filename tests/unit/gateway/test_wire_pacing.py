"""Fifty messages in any second; above, wait or break."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.gateway.wire_pacing import Pacer


def test_fifty_pass_and_the_next_waits_for_the_window() -> None:
    pacer = Pacer(50)
    for _ in range(50):
        assert pacer.wait_s(10.0) == 0
        pacer.passed(10.0)
    assert pacer.wait_s(10.25) == pytest.approx(0.75)
    assert pacer.wait_s(11.0) == 0


def test_each_window_above_the_limit_is_one_break_and_the_third_ends_it() -> None:
    pacer = Pacer(2)
    for start, broken in ((0.0, False), (2.0, False), (4.0, True)):
        assert [pacer.exceeded(start) for _ in range(4)] == [0, 0, 3, 4]
        assert pacer.broken is broken


def test_no_limit_never_waits() -> None:
    pacer = Pacer(0)
    assert all(pacer.exceeded(0.0) == 0 for _ in range(1000))


@given(st.lists(st.floats(0, 0.2), max_size=80), st.integers(1, 9))
def test_no_second_ever_holds_more_than_the_limit(gaps: list[float], limit: int) -> None:
    pacer, now, let_through = Pacer(limit), 0.0, []
    for gap in gaps:
        now += gap
        while wait := pacer.wait_s(now):
            now += wait
        pacer.passed(now)
        let_through.append(now)
    for first, last in zip(let_through, let_through[limit:], strict=False):
        assert last - first >= 1.0 - 1e-6
