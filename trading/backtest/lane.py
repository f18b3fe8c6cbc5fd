"""The market of one symbol in a run: its base bars, its sessions, and the orders that meet them.

Owns: from which bar on an order works and until when, which orders a bar reaches and in which order, its volume.
Leaves: every price (``brokers.fills``), what a fill does (``desk``).
Rule: a bar meets orders that were there before it began, in four turns: what fills at its start, by age; then what is
touched on the way, stops before limits; then the stops of what was entered on the way; last the closing auction. What
the bar leaves open counts against the strategy: an exit with profit waits for the next bar when its entry came on the
way, a stop does not. Floats only tell that an order is out of reach; whatever may fill goes through the model.
"""

from __future__ import annotations

from bisect import bisect_right
from decimal import ROUND_FLOOR, Decimal

from strategies.bar_series import all_columns, nanos_of
from trading.backtest.arrays import Track
from trading.backtest.contracts import InstrumentTerms
from trading.backtest.desk import Desk
from trading.backtest.orders import CLOSING, LIMIT, MARKET, NEVER, STOP, TOUCH, TRAIL, WorkingOrder
from trading.brokers.fills import Outcome, Stretch, match, stretch_of_bar

ZERO = Decimal(0)
_ONE = Decimal(1)
_NEAR = 1e-9  # of a price: closer than that a float is no proof of being out of reach


class Lane:
    """One symbol's market. Rows are those of its base series."""

    __slots__ = (
        "_begin_rows", "_close_ns", "_closes", "_closes_whole", "_decimal_close", "_desk", "_end_rows", "_half", "_half_f",
        "_highs", "_lows", "_opens", "_participation", "_session", "_share", "_starts", "_taken", "_unlimited",
        "_volumes", "quality", "series", "symbol", "terms", "track", "working",
    )  # fmt: skip

    def __init__(self, track: Track, terms: InstrumentTerms, desk: Desk) -> None:
        self.track, self.series, self.symbol = track, track.series, track.series.symbol
        self.quality = 100.0
        self.working: list[WorkingOrder] = []
        self._desk, self.terms = desk, terms
        _, opens, highs, lows, closes, volumes = all_columns(track.series)
        # Views of memory give plain floats, several times faster than an array's scalars.
        self._starts = memoryview(track.starts)
        self._opens, self._highs, self._lows, self._closes, self._volumes = map(
            memoryview, (opens, highs, lows, closes, volumes)
        )
        sessions = track.sessions
        self._close_ns: list[int] = sessions.closes.tolist()
        self._begin_rows: list[int] = track.starts.searchsorted(sessions.opens).tolist()
        self._end_rows: list[int] = track.starts.searchsorted(sessions.closes).tolist()
        self._closes_whole = int(track.ends[-1])
        self._session = 0
        models = desk.models
        self._half, self._half_f = models.half_spread, float(models.half_spread)
        self._participation = models.participation if models.participation is not None else _ONE
        self._share = float(self._participation)
        self._unlimited = models.participation is None or not volumes.any()
        self._taken: dict[str, Decimal] = {}
        self._decimal_close: tuple[int, Decimal] | None = None

    @property
    def has_volume(self) -> bool:
        """Tell whether its bars say how much was traded."""
        return not self._unlimited or self._desk.models.participation is None

    def last_close(self) -> Decimal | None:
        """Return the last visible close, None before the first bar."""
        row = self.series.count - 1
        if row < 0:
            return None
        if self._decimal_close is None or self._decimal_close[0] != row:
            self._decimal_close = (row, Decimal(repr(self._closes[row])))
        return self._decimal_close[1]

    # -- when an order works

    def add(self, order: WorkingOrder, now_ns: int) -> None:
        """Take an order that is placed now; it meets the first bar that begins then or later."""
        row = self.series.count
        starts = self._starts
        while row < len(starts) and starts[row] < now_ns:
            row += 1
        order.first_row = row
        self.working.append(order)
        terms = order.terms
        if terms.good_till is not None:
            order.ends_ns = nanos_of(terms.good_till)
            order.last_row = int(self.track.starts.searchsorted(order.ends_ns)) - 1
        elif terms.tif != "GTC":
            session = bisect_right(self._close_ns, now_ns)
            if session < len(self._close_ns):
                order.ends_ns = self._close_ns[session]
                order.last_row = self._end_rows[session] - 1

    def add_exit(self, order: WorkingOrder, entry: WorkingOrder) -> None:
        """Take an exit whose entry just ended."""
        order.placed_ns = self._desk.now_ns
        order.first_row = self.series.count
        self.working.append(order)

    def expire(self, now_ns: int) -> None:
        """End what is over by now; for the end of a run."""
        for order in list(self.working):
            if order in self.working and order.ends_ns <= now_ns:
                self._desk.end(order, "expired", order.ends_ns)

    # -- one bar

    def match(self, row: int) -> None:
        """Let one bar meet the working orders."""
        working = self.working
        order = working[0]
        if len(working) == 1 and order.is_plain and order.first_row <= row <= order.last_row:
            volume = self._volumes[row]
            if (self._unlimited or float(order.remaining) <= volume * self._share) and self._is_open(row):
                self._at_open(order, row)
                return
        self._match_all(row)

    def _is_open(self, row: int) -> bool:
        """Tell whether a bar lies within a session, and note which."""
        session = self._session
        while row >= self._end_rows[session]:
            session += 1
            if session == len(self._end_rows):
                return False
        self._session = session
        return row >= self._begin_rows[session]

    def _at_open(self, order: WorkingOrder, row: int) -> None:
        """A market order for which the volume is enough: ``match`` would say the same (a test does)."""
        price = Decimal(repr(self._opens[row]))
        if self._half:
            price = price + self._half if order.is_buy else price - self._half
        self._desk.fill(order, order.remaining, price, self._starts[row])

    def _match_all(self, row: int) -> None:
        for order in list(self.working):
            if order.last_row < row and order in self.working:
                self._desk.end(order, "expired", order.ends_ns)
        if not self.working or not self._is_open(row):
            return
        self._taken.clear()
        stretch = self._stretch(row)
        time_ns = self._starts[row]
        for order in [order for order in self.working if order.first_row <= row and _is_first(order, stretch)]:
            self._work(order, row, stretch, time_ns)
        reached = [order for order in self.working if order.first_row <= row and self._may_reach(order, row)]
        for order in sorted(reached, key=_turn):
            self._work(order, row, stretch, time_ns)
        for order in [order for order in self.working if order.first_row <= row and order.at_once]:
            if order in self.working:
                self._desk.end(order, "cancelled", time_ns, "not filled at once")

    def _stretch(self, row: int) -> Stretch:
        session = self._session
        opening = Decimal(repr(self._opens[row]))
        return stretch_of_bar(
            opening,
            Decimal(repr(self._highs[row])),
            Decimal(repr(self._lows[row])),
            None if self._unlimited else Decimal(repr(self._volumes[row])),
            self._half,
            opening=opening if row == self._begin_rows[session] else None,
            closing=Decimal(repr(self._closes[row])) if row == self._end_rows[session] - 1 else None,
        )

    def _may_reach(self, order: WorkingOrder, row: int) -> bool:
        """Tell whether a bar may touch an order; True when in doubt."""
        kind, is_buy = order.kind, order.is_buy
        if kind == MARKET or kind == TRAIL or kind == CLOSING or order.triggered:
            return True
        if kind == LIMIT:
            margin = abs(order.limit_f) * _NEAR
            if is_buy:
                return self._lows[row] + self._half_f <= order.limit_f + margin
            return self._highs[row] - self._half_f >= order.limit_f - margin
        margin = abs(order.stop_f) * _NEAR
        if is_buy is (kind == STOP):
            return self._highs[row] >= order.stop_f - margin
        return self._lows[row] <= order.stop_f + margin

    def _work(self, order: WorkingOrder, row: int, stretch: Stretch, time_ns: int) -> None:
        if order not in self.working or order.first_row > row:
            return
        outcome = match(
            order.for_model(), stretch, participation=self._participation, lot=self.terms.lot, tick=self.terms.tick
        )
        if outcome.stop is not None:
            order.stop = outcome.stop
        order.triggered = order.triggered or outcome.triggered
        quantity = self._granted(order, outcome, stretch)
        if quantity > 0:
            self._desk.fill(order, quantity, outcome.price, time_ns)

    def _granted(self, order: WorkingOrder, outcome: Outcome, stretch: Stretch) -> Decimal:
        """What the bar's volume leaves to an order after the strategy's others."""
        if not outcome.quantity or stretch.volume is None:
            return outcome.quantity
        taken = self._taken.get(order.strategy, ZERO)
        lots = (stretch.volume * self._participation / self.terms.lot).to_integral_value(rounding=ROUND_FLOOR)
        quantity = min(outcome.quantity, lots * self.terms.lot - taken)
        if order.terms.tif == "FOK" and quantity < order.remaining:
            return ZERO
        self._taken[order.strategy] = taken + quantity
        return quantity


def _is_first(order: WorkingOrder, stretch: Stretch) -> bool:
    """Tell whether an order fills at a bar's start, if it fills."""
    kind, is_buy = order.kind, order.is_buy
    if kind == MARKET or order.terms.tif == "OPG":
        return True
    if kind == LIMIT:
        limit = order.limit or ZERO
        return stretch.ask <= limit if is_buy else stretch.bid >= limit
    if kind == CLOSING or order.stop is None:
        return False
    if order.triggered:
        return True
    rising = is_buy is not (kind == TOUCH)
    return stretch.last >= order.stop if rising else stretch.last <= order.stop


def _turn(order: WorkingOrder) -> int:
    if order.kind == CLOSING:
        return 2
    return 0 if order.kind in (STOP, TRAIL) else 1


__all__ = ["NEVER", "Lane"]
