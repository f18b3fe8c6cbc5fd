"""One indicator of a series of bars: computed over what is there, stepped bar by bar, read through the bars' cursor.

Owns: warm-up, the columns of values, views of them. Leaves: formulas, who steps (``session_data``, and nobody else).
Rule: the owner steps before the bar becomes visible, so that a reader never sees a bar without its value. Everything
that a run knows is in its own object: two symbols share nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strategies.bar_series import Bar, BarSeries, Floats, Nanos
from trading.market.indicators.registry import Request
from trading.market.indicators.sites import NAN
from trading.market.indicators.tools import Places, Tools
from trading.market.session_table import SessionTable

_ROOM = 512


class Run:
    """The formula of a request on its way through the bars of one symbol."""

    def __init__(self, request: Request) -> None:
        self._spec, self._period = request.spec, request.period
        self._params = dict(request.params)
        self._tools = Tools(request.interval)
        self._blind = request.warm_up - 1
        self._seen = 0

    def whole(self, starts: Nanos, columns: Sequence[Floats], table: SessionTable) -> tuple[Floats, ...]:
        """Return the values at every bar, NaN while it warms up; ``step`` goes on after the last. Call it once, first.

        Shape: ``columns`` open, high, low, close, volume, as long as ``starts``; one column for each output.
        """
        open_, high, low, close, volume = columns
        self._tools.begin(Places.of(self._tools.interval, starts, table), (open_, high, low, close, volume))
        outputs = self._spec.formula(self._tools, self._period, self._params)
        self._tools.forget()
        self._seen = len(starts)
        return tuple(self._masked(column) for column in outputs)

    def _masked(self, column: Floats) -> Floats:
        made = np.array(column, dtype=np.float64)
        made[: self._blind] = NAN
        return made

    def step(self, bar: Bar, table: SessionTable) -> tuple[float, ...]:
        """Return the values at the next bar, NaN while it warms up."""
        self._tools.next(bar, table)
        found = self._spec.formula(self._tools, self._period, self._params)
        self._seen += 1
        return found if self._seen > self._blind else (NAN,) * len(found)


class Indicator:
    """An indicator with its values, as long as its bars. One writer; readers of other threads see whole values."""

    def __init__(self, request: Request, bars: BarSeries, table: SessionTable) -> None:
        self.request, self.bars = request, bars
        self._columns: tuple[Floats, ...] = ()
        self._run: Run
        self.recompute(*bars.whole(), table)
        self.views = {name: View(self, place) for place, name in enumerate(request.spec.outputs)}

    @property
    def key(self) -> str:
        """Return its name in a session."""
        return self.request.key

    @property
    def columns(self) -> tuple[Floats, ...]:
        """Return the values of every output, laid out as far as they are known."""
        return self._columns

    def recompute(self, starts: Nanos, columns: Sequence[Floats], table: SessionTable) -> None:
        """Compute every value anew over bars that the series has, or is about to have."""
        run = Run(self.request)
        self._columns = run.whole(starts, columns, table)
        self._run = run

    def step(self, bar: Bar, table: SessionTable) -> None:
        """Add the values at a bar that is about to be appended to the series."""
        found = self._run.step(bar, table)
        place = self.bars.count
        if place == len(self._columns[0]):
            room = np.full(max(place, _ROOM), NAN)
            self._columns = tuple(np.concatenate([column, room]) for column in self._columns)
        for column, value in zip(self._columns, found, strict=True):
            column[place] = value


class View:
    """One output of an indicator, read through its bars' cursor (``strategies.reactive.IndicatorView``)."""

    __slots__ = ("_bars", "_indicator", "_place")

    def __init__(self, indicator: Indicator, place: int) -> None:
        self._indicator, self._place, self._bars = indicator, place, indicator.bars

    @property
    def key(self) -> str:
        """Return the indicator's name in its session."""
        return self._indicator.key

    @property
    def value(self) -> float | None:
        """Return the latest value, None while it warms up."""
        return self._at(self._bars.count - 1)

    @property
    def previous(self) -> float | None:
        """Return the value one bar before, None while it warmed up."""
        return self._at(self._bars.count - 2)

    @property
    def values(self) -> Floats:
        """Return the visible values, a read-only view as long as the bars."""
        view = self._indicator.columns[self._place][: self._bars.count]
        view.flags.writeable = False
        return view

    @property
    def whole(self) -> Floats:
        """Return the values at every bar that is laid out, beyond the cursor too: for those who prepare a run."""
        return self._indicator.columns[self._place]

    @property
    def bars(self) -> BarSeries:
        """Return the bars whose cursor it follows."""
        return self._bars

    @property
    def outputs(self) -> Sequence[str]:
        """Return the names of all outputs of the indicator."""
        return self._indicator.request.spec.outputs

    def _at(self, place: int) -> float | None:
        if place < 0:
            return None
        found = self._indicator.columns[self._place].item(place)
        return found if found == found else None

    def output(self, name: str) -> View:
        """Return another output, such as the signal of macd.

        Raises: ConfigError (bad_indicator) naming the outputs.
        """
        found = self._indicator.views.get(name)
        if found is None:
            raise self._indicator.request.spec.error(
                f"has no output {name!r}; it has {', '.join(self._indicator.request.spec.outputs)}"
            )
        return found


class Nothing:
    """The indicator of bars that nobody has."""

    key = ""
    value: float | None = None
    previous: float | None = None

    def __init__(self) -> None:
        self.values = np.empty(0)
        self.values.flags.writeable = False

    def output(self, name: str) -> Nothing:
        """Return itself."""
        return self
