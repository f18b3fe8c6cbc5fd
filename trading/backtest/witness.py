"""What a strategy said and what it reckoned with in one run, noted without its knowledge.

Owns: standing between engine and strategy, the shapes of what was said, reading numbers out of running code.
Leaves: comparing two runs (``lookahead``, ``warm_up``). Rule: the strategy's own object runs, with its own code; only
its hooks are called through here. Numbers are read at chosen moments alone: what its functions held when they returned,
what it keeps about itself, and the indicators that it asked for. Pure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from strategies.bar_series import BarSeries, nanos_of
from strategies.reactive import ArrayStrategy, ReactiveStrategy, Signal, SignalArrays, StrategyContext
from trading.backtest.outside import noting

Number = float | Decimal | None
Place = tuple[int, str, str]
"""The moment (epoch nanoseconds) of a call, and its symbol and interval."""
_MOST_CALLS = 300  # of functions of the strategy's file that are read at one moment
_MOST_ITEMS = 16
_TERMS = (
    "quantity", "price", "order_type", "stop", "trail", "trail_percent", "tif", "stop_loss", "take_profit",
    "limit_offset", "good_till",
)  # fmt: skip


class Said(NamedTuple):
    """One signal. ``terms`` are its fields but for the reason, which is for people."""

    at_ns: int
    symbol: str
    action: str
    terms: tuple[Any, ...]
    numbers: tuple[tuple[str, Number], ...]  # of its metadata

    @property
    def text(self) -> str:
        """Return it in words."""
        named = [
            f"{name} {value}"
            for name, value in zip(_TERMS, self.terms, strict=True)
            if value is not None and (name, value) != ("tif", "DAY")
        ]
        return " ".join([self.action, self.symbol, *named])


class Witness:
    """Makes a strategy as ``make`` does and notes what it does; one witness a run."""

    def __init__(
        self,
        make: Callable[..., Any],
        moments: Collection[int] = (),
        opened: set[str] | None = None,
        shape: Callable[[Any], Any] | None = None,
    ) -> None:
        self._make, self._shape = make, shape
        self._moments = frozenset(moments)  # at which numbers are read
        self._context: StrategyContext | None = None
        self.said: list[Said] = []
        self.numbers: dict[Place, dict[str, Number]] = {}
        self.opened: set[str] = set() if opened is None else opened
        self.calls = 0

    def __call__(self, name: str, config: Mapping[str, Any]) -> Any:
        """Make the strategy, with this witness before its hooks."""
        with noting(self.opened):
            made = self._make(name, config)
        if not isinstance(made, ReactiveStrategy):
            return made
        if isinstance(made, ArrayStrategy):
            self._stand_before_arrays(made)
        run = made if self._shape is None else self._shape(made)
        self._stand_before(run, made)
        return run

    def _stand_before_arrays(self, made: ArrayStrategy) -> None:
        declare = made.signals_as_arrays

        def noted(bars: BarSeries) -> SignalArrays:
            with noting(self.opened):
                return declare(bars)

        made.signals_as_arrays = noted  # type: ignore[method-assign]  # of this object alone

    def _stand_before(self, run: ReactiveStrategy, made: ReactiveStrategy) -> None:
        setup, on_bars, files = run.setup, run.on_bars, files_of(type(made))

        def noted_setup(context: StrategyContext) -> bool:
            self._context = context
            with noting(self.opened):
                return setup(context)

        def noted_on_bars(symbol: str, interval: str) -> Any:
            self.calls += 1
            now = self._now()
            with noting(self.opened):
                if now in self._moments:
                    answer, numbers = traced(on_bars, symbol, interval, files)
                    numbers |= dict(numbers_of("self", vars(made)))
                    self.numbers[now, symbol, interval] = numbers | self._indicators(symbol)
                else:
                    answer = on_bars(symbol, interval)
                if answer and not isinstance(answer, Sequence):
                    answer = list(answer)
            if answer:
                self.said.extend(said_of(now, one) for one in answer if isinstance(one, Signal))
            return answer

        run.setup = noted_setup  # type: ignore[method-assign]  # of this object alone
        run.on_bars = noted_on_bars  # type: ignore[method-assign]

    def _now(self) -> int:
        return nanos_of(self._context.get_current_time()) if self._context is not None else 0

    def _indicators(self, symbol: str) -> dict[str, Number]:
        """The indicators that were asked for, every output."""
        data: Any = self._context.session_data if self._context is not None else None
        views = data.get_indicators(symbol) if hasattr(data, "get_indicators") else {}
        return {
            f"{symbol} {key}" + (f".{name}" if len(view.outputs) > 1 else ""): view.output(name).value
            for key, view in views.items()
            for name in view.outputs
        }


def said_of(now: int, signal: Signal) -> Said:
    """Return a signal as it is compared."""
    action = str(getattr(signal.action, "value", signal.action))
    terms = tuple(getattr(signal, name) for name in _TERMS)
    return Said(now, signal.symbol, action, terms, tuple(numbers_of("", signal.metadata or {})))


def numbers_of(prefix: str, named: Mapping[str, Any]) -> Iterator[tuple[str, Number]]:
    """Return the numbers among some values: numbers, the items of short lists, the last element of arrays."""
    for name, value in named.items():
        if str(name).startswith("@"):  # of the compiler, not of the strategy
            continue
        place = f"{prefix}.{name}" if prefix else str(name)
        if value is None or (isinstance(value, float | int | Decimal) and not isinstance(value, bool)):
            yield place, value
        elif isinstance(value, bool | np.bool_ | np.integer | np.floating):
            yield place, float(value)
        elif isinstance(value, list | tuple) and len(value) <= _MOST_ITEMS:
            yield from numbers_of(place, {str(n): one for n, one in enumerate(value)})
        elif isinstance(value, dict) and len(value) <= _MOST_ITEMS:
            yield from numbers_of(place, {str(key): one for key, one in value.items()})
        else:
            yield from _last_of(place, value)


def _last_of(place: str, value: Any) -> Iterator[tuple[str, Number]]:
    """The last element of an array or a column of pandas: what it says of now."""
    if isinstance(value, BarSeries):
        return
    array = value if isinstance(value, np.ndarray) else getattr(value, "values", None)
    if isinstance(array, np.ndarray) and array.ndim == 1 and len(array) and array.dtype.kind in "fiub":
        yield f"{place}[-1]", float(array[-1])


def files_of(kind: type) -> frozenset[str]:
    """Return the files in which the functions of a class stand, those of the contract itself left out."""
    own = [each for each in kind.__mro__ if each.__module__ != ReactiveStrategy.__module__]
    codes = [getattr(getattr(one, "__func__", one), "__code__", None) for each in own for one in vars(each).values()]
    return frozenset(code.co_filename for code in codes if code is not None)


def traced(
    act: Callable[..., Any], symbol: str, interval: str, files: Collection[str]
) -> tuple[Any, dict[str, Number]]:
    """Call a strategy's hook; return its answer and the numbers that functions of its files held as they returned."""
    found: dict[str, Number] = {}
    turns: dict[str, int] = {}

    def look(frame: Any, event: str, returned: Any) -> None:
        if event != "return" or frame.f_code.co_filename not in files:
            return
        name = frame.f_code.co_name
        turns[name] = turn = turns.get(name, 0) + 1
        if sum(turns.values()) <= _MOST_CALLS and not name.startswith("<"):
            place = name if turn == 1 else f"{name}#{turn}"
            found.update(numbers_of(place, frame.f_locals))
            found.update(numbers_of("", {f"{place}()": returned}))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        answer = act(symbol, interval)
    finally:
        sys.setprofile(before)
    return answer, found
