"""Texts remembered by eight bytes each: the same answers as a set of the texts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trading.engine.marks import Marks

texts = st.lists(st.text(max_size=6), max_size=30)


@given(texts, texts, texts)
def test_marks_answer_like_a_set(first: list[str], second: list[str], third: list[str]) -> None:
    one, two, three = Marks(first), Marks(second), Marks()
    for text in third:
        three.add(text)
        assert text in three  # looked at between two additions
    assert len(one) == len(set(first))
    left, shared = one.without(two, three), one.shared(two)
    for text in {*first, *second, *third}:
        assert (text in left) == (text in set(first) - set(second) - set(third))
        assert (text in shared) == (text in set(first) & set(second))
