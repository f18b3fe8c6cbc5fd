"""How far a run with less history is from the one with all of it.

Owns: drift of numbers, signals that differ, numbers that grow bar by bar. Leaves: the runs (``warm_up``).
Units: drift is the largest difference of a number over the watched bars, as a fraction of its own largest size there;
infinite where only one of the two has it. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, isfinite
from typing import Any

from trading.backtest.likeness import Numbers
from trading.backtest.rehearsal import Notes
from trading.backtest.witness import Number, Said

Key = tuple[str, str, str]  # symbol, interval, name
_FADED = 0.5  # of the drift with the shortest history


@dataclass(slots=True)
class Drift:
    """What differs. ``by_name`` is the drift of each number; those ``ignored`` are judged apart.

    ``signals`` are the moments at which it said something else, ``spoken`` those at which either run said anything.
    """

    by_name: dict[str, float] = field(default_factory=dict)
    signals: int = 0
    spoken: int = 0
    ignored: frozenset[str] = frozenset()

    @property
    def worst(self) -> float:
        """Return the largest drift of a number that counts."""
        return max((value for name, value in self.by_name.items() if name not in self.ignored), default=0.0)

    @property
    def worst_name(self) -> str:
        """Return the number that drifts most."""
        counted = [name for name in self.by_name if name not in self.ignored]
        return max(counted, key=lambda name: self.by_name[name], default="")

    def is_within(self, tolerance: float) -> bool:
        """Tell whether decisions are right."""
        return self.worst <= tolerance and not self.signals


def stuck(drifts: Sequence[Drift], tolerance: float) -> frozenset[str]:
    """Return the numbers whose drift does not fade from the shortest history to the longest: running sums and such.

    What is missing with less history is no such number.
    """
    if len(drifts) < 2:
        return frozenset()
    first, last = drifts[0].by_name, drifts[-1].by_name
    return frozenset(
        name for name, value in last.items() if tolerance < value < inf and value > _FADED * first.get(name, inf)
    )


def compare(whole: Notes, numbers: Numbers, cut: Notes, tolerance: float) -> Drift:
    """Return the drift of a run against the one with all history; ``numbers`` are those of the latter that count."""
    ours, theirs = _by_key(numbers, whole.said), _by_key(cut.numbers, cut.said)
    by_name: dict[str, float] = {}
    for key, values in ours.items():
        others = theirs.get(key, {})
        if not _counts_bars(values, others):
            by_name[_text(key)] = _drift(values, others)
    said, heard = _by_moment(whole, numbers), _by_moment(cut, numbers)
    spoken = said.keys() | heard.keys()
    differs = [at for at in spoken if not _is_same(said.get(at, []), heard.get(at, []), tolerance)]
    return Drift(by_name, len(differs), len(spoken))


def grown(along: Numbers, fresh: Numbers, tolerance: float) -> list[str]:
    """Return numbers, no whole ones, that both runs have at their first watched moment, and that differ.

    They grew out of calls that came before.
    """
    ours, theirs = _by_key(along), _by_key(fresh)
    found = []
    for key, values in ours.items():
        at_ns = min(values)
        one, other = _real(values[at_ns]), _real(theirs.get(key, {}).get(at_ns))
        if one is None or other is None or one == int(one) or other == int(other):
            continue
        if not _is_near(one, other, tolerance):
            found.append(f"{_text(key)} is {one:.6g} running all along, {other:.6g} after a start")
    return found


def _by_key(numbers: Numbers, said: Iterable[Said] = ()) -> dict[Key, dict[int, Number]]:
    """Numbers by what they are; those in the metadata of signals as well."""
    found: dict[Key, dict[int, Number]] = defaultdict(dict)
    for (at_ns, symbol, interval), named in numbers.items():
        answered = {name.partition("()")[0] for name, value in named.items() if "()" in name and value is not None}
        for name, value in named.items():
            if name.partition(".")[0] not in answered:  # else it was only on the way to a number that was returned
                found[symbol, interval, name][at_ns] = value
    watched = {place[0] for place in numbers}
    for one in said:
        if one.at_ns in watched:
            for name, value in one.numbers:
                found[one.symbol, "signal", name][one.at_ns] = value
    return found


def _drift(ours: Mapping[int, Number], theirs: Mapping[int, Number]) -> float:
    size = max((abs(value) for value in map(_real, ours.values()) if value is not None), default=0.0)
    worst = 0.0
    for at_ns, value in ours.items():
        one, other = _real(value), _real(theirs.get(at_ns))
        if one is None and other is None:
            continue
        if one is None or other is None:
            return inf
        apart = abs(one - other)
        worst = max(worst, apart / size if size else inf if apart else 0.0)
    return worst


def _counts_bars(ours: Mapping[int, Number], theirs: Mapping[int, Number]) -> bool:
    """Whole numbers that go up by one a bar in both runs, and are apart by the same number all along."""
    if len(ours) < 2 or ours.keys() - theirs.keys():
        return False
    pairs = [(_real(ours[at]), _real(theirs[at])) for at in sorted(ours)]
    if any(one is None or other is None or one != int(one) or other != int(other) for one, other in pairs):
        return False
    apart = {one - other for one, other in pairs if one is not None and other is not None}
    steps = {
        later[0] - earlier[0] for earlier, later in pairwise(pairs) if earlier[0] is not None and later[0] is not None
    }
    return apart != {0.0} and len(apart) == 1 and all(step >= 0 for step in steps) and max(steps) > 0


def _by_moment(notes: Notes, numbers: Numbers) -> dict[int, list[Said]]:
    watched = {place[0] for place in numbers}
    found: dict[int, list[Said]] = defaultdict(list)
    for one in notes.said:
        if one.at_ns in watched:
            found[one.at_ns].append(one)
    return found


def _is_same(ours: list[Said], theirs: list[Said], tolerance: float) -> bool:
    if len(ours) != len(theirs):
        return False
    return all(
        one[:3] == other[:3] and all(map(lambda a, b: _is_near(a, b, tolerance), one.terms, other.terms))
        for one, other in zip(ours, theirs, strict=True)
    )


def _is_near(one: Any, other: Any, tolerance: float) -> bool:
    if one == other:
        return True
    try:
        a, b = float(one), float(other)
    except (TypeError, ValueError):
        return False
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


def _real(value: Number) -> float | None:
    """A number as a float; what is missing, or no number, is None."""
    if value is None:
        return None
    found = float(value)
    return found if isfinite(found) else None


def _text(key: Key) -> str:
    symbol, interval, name = key
    return name if name.startswith(f"{symbol} ") else f"{symbol} {interval} {name}"
