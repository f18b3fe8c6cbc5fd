"""The price path: every cut of it agrees with every other, forwards, backwards and across its turns."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.gateway.market_path import PricePath

Bars = list[tuple[float, float, float, float, float]]


@st.composite
def bars(draw: st.DrawFn) -> Bars:
    """A few minutes with high and low around open and close."""
    prices = st.integers(100, 10_000).map(lambda n: n / 100)
    rows: Bars = []
    for _ in range(draw(st.integers(1, 6))):
        open_, close = draw(prices), draw(prices)
        high = max(open_, close) + draw(st.integers(0, 100)) / 100
        low = min(open_, close) - draw(st.integers(0, 90)) / 100
        rows.append((open_, high, low, close, float(draw(st.integers(0, 5000)))))
    return rows


def path_of(rows: Bars) -> PricePath:
    columns = np.array(rows, dtype=np.float64).T
    return PricePath(*columns)


moments = st.one_of(
    st.floats(-40, 40, allow_nan=False, allow_infinity=False),
    st.integers(-40, 40).map(float),
    st.integers(-120, 120).map(lambda n: n / 3),
)
lengths = st.one_of(st.floats(0.001, 30, allow_nan=False), st.integers(1, 30).map(float))


def one(path: PricePath, start: float, end: float) -> tuple[float, float, float, float, float]:
    spans = path.spans(np.array([start]), np.array([end]))
    return tuple(float(c[0]) for c in (spans.open, spans.high, spans.low, spans.close, spans.volume))  # type: ignore[return-value]


@given(bars(), st.integers(-12, 12))
def test_a_whole_minute_is_the_bar_it_came_from(rows: Bars, minute: int) -> None:
    path = path_of(rows)
    passes, index = divmod(minute, len(rows))
    backward = passes % 2 == 1
    open_, high, low, close, volume = rows[len(rows) - 1 - index if backward else index]
    if backward:
        open_, close = close, open_
    assert one(path, float(minute), float(minute + 1)) == pytest.approx((open_, high, low, close, volume), abs=1e-6)


@settings(max_examples=300)
@given(bars(), moments, lengths)
def test_a_span_is_the_highest_and_lowest_of_the_line_it_cuts(rows: Bars, start: float, length: float) -> None:
    path, end = path_of(rows), start + length
    open_, high, low, close, _ = one(path, start, end)
    walked = [path.price(float(u)) for u in np.linspace(start, end, 60)[:-1]]
    walked.append(path.price(end, left=True))
    for third in range(math.ceil(start * 3), math.floor(end * 3) + 1):
        knot = third / 3
        walked += [path.price(knot)] if start <= knot < end else []
        walked += [path.price(knot, left=True)] if start < knot <= end else []
    assert open_ == pytest.approx(path.price(start), abs=1e-6)
    assert close == pytest.approx(path.price(end, left=True), abs=1e-6)
    assert high == pytest.approx(max(walked), abs=1e-4)
    assert low == pytest.approx(min(walked), abs=1e-4)


@given(bars(), moments, lengths, lengths)
def test_two_neighbouring_spans_add_up_to_the_span_of_both(
    rows: Bars, start: float, first: float, second: float
) -> None:
    path, middle = path_of(rows), start + first
    end = middle + second
    a, b, both = one(path, start, middle), one(path, middle, end), one(path, start, end)
    assert both[1] == pytest.approx(max(a[1], b[1]), abs=1e-6)
    assert both[2] == pytest.approx(min(a[2], b[2]), abs=1e-6)
    assert both[4] == pytest.approx(a[4] + b[4], abs=1e-5)
    assert both[4] >= -1e-9


@given(bars(), moments, st.floats(0.001, 3, allow_nan=False))
def test_the_quick_way_agrees_with_the_thorough_one(rows: Bars, start: float, length: float) -> None:
    path = path_of(rows)
    _, high, low, _, volume = one(path, start, start + length)
    assert path.extremes(start, start + length) == pytest.approx((high, low), abs=1e-6)
    assert path.volume(start, start + length) == pytest.approx(volume, abs=1e-5)


def test_a_path_needs_a_bar() -> None:
    with pytest.raises(ValueError, match="at least one bar"):
        PricePath(*(np.array([]) for _ in range(5)))
