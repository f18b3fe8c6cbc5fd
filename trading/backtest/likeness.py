"""Two runs beside each other: what the one has that the other lacks.

Owns: what counts as the same, the first difference, its words. Leaves: which runs (``lookahead``, ``warm_up``). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from strategies.bar_series import moment_of
from trading.backtest.contracts import BacktestOrder
from trading.backtest.rehearsal import Notes
from trading.backtest.witness import Number, Place, Said

_RELATIVE, _ABSOLUTE = 1e-9, 1e-12  # floats that differ by less are the same
Numbers = dict[Place, dict[str, Number]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference. ``at_ns`` is when it shows, ``cut_ns`` where the bars ended; epoch nanoseconds UTC.

    ``kind``: vanished, appeared, changed, number, failed. ``role``: entry, exit, order, target, quiet.
    """

    kind: str
    role: str
    symbol: str
    at_ns: int
    cut_ns: int
    whole: str  # what the run over all bars has
    cut: str  # what the run over fewer bars has

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        what = {"entry": "An entry", "exit": "An exit", "order": "An order", "target": "A target", "quiet": "A signal"}[
            self.role
        ]
        at, end = written(self.at_ns), written(self.cut_ns)
        if self.kind == "failed":
            return f"With bars that end at {end} its code fails: {self.cut}"
        if self.kind == "number":
            return f"At {at} it reckons with {self.whole}; with bars that end at {end} it is {self.cut}."
        if self.kind == "vanished":
            return f"{what} of {at} ({self.whole}) is not there when the bars end at {end}."
        if self.kind == "appeared":
            return f"When the bars end at {end} there is at {at}: {self.cut}. Over all bars there is not."
        return f"{what} of {at} is {self.whole}; when the bars end at {end} it is {self.cut}."


@dataclass(slots=True)
class Look:
    """A moment at which the bars are to end, and what for."""

    at_ns: int
    roles: set[str]


def difference(whole: Notes, cut: Notes, look: Look, numbers: Numbers) -> Finding | None:
    """Return the first thing up to the moment that the two runs do not share; None when they share all."""
    at = look.at_ns
    role = next((one for one in ("entry", "exit", "order") if one in look.roles), "quiet")
    if cut.error and (not whole.error or cut.calls < whole.calls):
        return Finding("failed", role, "", at, at, "", last_line(cut.error))
    theirs = [one for one in whole.said if one.at_ns <= at]
    found = _first_difference(
        [(one.at_ns, one.symbol, one.text, one) for one in theirs],
        [(one.at_ns, one.symbol, one.text, one) for one in cut.said],
        lambda one, other: is_same_said(one[3], other[3]),
    ) or _first_difference(
        [_of_order(one) for one in whole.orders if one.placed_ns <= at],
        [_of_order(one) for one in cut.orders if one.placed_ns <= at],
        lambda one, other: one == other,
    )
    if found is not None:
        kind, moment, symbol, one, other = found
        return Finding(kind, role, symbol, moment, at, one, other)
    return _number_that_differs(numbers, cut.numbers, role, at)


def _first_difference(
    whole: Sequence[tuple[Any, ...]], cut: Sequence[tuple[Any, ...]], is_same: Callable[[Any, Any], bool]
) -> tuple[str, int, str, str, str] | None:
    """Kind, moment, symbol and both texts of the first pair that differs."""
    for one, other in zip(whole, cut, strict=False):
        if is_same(one, other):
            continue
        if one[:2] == other[:2]:
            return "changed", one[0], one[1], one[2], other[2]
        if one[0] <= other[0]:
            return "vanished", one[0], one[1], one[2], ""
        return "appeared", other[0], other[1], "", other[2]
    if len(whole) > len(cut):
        one = whole[len(cut)]
        return "vanished", one[0], one[1], one[2], ""
    if len(cut) > len(whole):
        other = cut[len(whole)]
        return "appeared", other[0], other[1], "", other[2]
    return None


def _of_order(order: BacktestOrder) -> tuple[Any, ...]:
    prices = "".join(f" {name} {price}" for name, price in (("at", order.limit), ("stop", order.stop)) if price)
    denied = ", denied" if order.state == "denied" else ""
    text = f"{order.side} {order.quantity:f} {order.symbol} {order.order_type}{prices}{denied}"
    return order.placed_ns, order.symbol, text


def _number_that_differs(whole: Numbers, cut: Numbers, role: str, at: int) -> Finding | None:
    for place, numbers in cut.items():
        known = whole.get(place, {})
        for name, value in numbers.items():
            if name in known and not is_same_number(known[name], value):
                one, other = f"{name} = {figure(known[name])}", figure(value)
                return Finding("number", role, place[1], place[0], at, one, other)
    return None


def steady(first: Numbers, second: Numbers) -> Numbers:
    """Numbers that were the same in two runs over the same bars; clocks and counters of the process are not."""
    return {
        place: {
            name: value
            for name, value in numbers.items()
            if name in second.get(place, {}) and is_same_number(value, second[place][name])
        }
        for place, numbers in first.items()
    }


def says_the_same(one: Notes, other: Notes) -> bool:
    """Tell whether two runs said the same and ordered the same."""
    said = len(one.said) == len(other.said) and all(map(is_same_said, one.said, other.said))
    return said and list(map(_of_order, one.orders)) == list(map(_of_order, other.orders))


def is_same_said(one: Said, other: Said) -> bool:
    if one[:3] != other[:3] or len(one.numbers) != len(other.numbers):
        return False
    terms = zip(one.terms, other.terms, strict=True)
    numbers = zip(one.numbers, other.numbers, strict=True)
    return all(is_same_number(a, b) for a, b in terms) and all(
        a[0] == b[0] and is_same_number(a[1], b[1]) for a, b in numbers
    )


def is_same_number(one: Any, other: Any) -> bool:
    """Tell whether two values are the same but for the last digits of floats; two NaN are.

    >>> is_same_number(0.1 + 0.2, 0.3), is_same_number(1.0, 1.001), is_same_number(float("nan"), float("nan"))
    (True, False, True)
    """
    if one is None or other is None or isinstance(one, str) or isinstance(other, str):
        return bool(one == other)
    try:
        a, b = float(one), float(other)
    except (TypeError, ValueError):
        return bool(one == other)
    if a != a or b != b:
        return a != a and b != b
    return a == b or abs(a - b) <= max(_ABSOLUTE, _RELATIVE * max(abs(a), abs(b)))


def figure(value: Number) -> str:
    return "nothing" if value is None else f"{float(value):.10g}"


def last_line(error: str) -> str:
    return error.strip().rpartition("\n")[2]


def written(nanos: int) -> str:
    return f"{moment_of(nanos):%Y-%m-%d %H:%M:%S}Z"
