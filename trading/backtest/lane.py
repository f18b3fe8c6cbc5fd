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
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal
from math import inf
from typing import Protocol

from strategies.bar_series import nanos_of
from strategies.exceptions import OrderDeniedError
from trading.backtest.arrays import Track, plain_view
from trading.backtest.contracts import InstrumentTerms, Models
from trading.backtest.desk import Desk
from trading.backtest.orders import CLOSING, LIMIT, MARKET, NEVER, STOP, TOUCH, TRAIL, WorkingOrder
from trading.brokers.fills import Outcome, Stretch, match, rest_of, stretch_of_bar
from trading.market.signal_terms import MARKET as MARKET_OF_DAY

ZERO = Decimal(0)
_ONE = Decimal(1)
_AT_START, _ON_THE_WAY, _AT_CLOSE = range(3)
# As the paper gateway has it: exchanges take auction orders until 15:50 and 09:28.
_CLOSE_DEADLINE_NS = 600_000_000_000
_OPEN_DEADLINE_NS = 120_000_000_000
_NEAR = 1e-9  # of a price: closer than that a float is no proof of being out of reach


class HasQuality(Protocol):
    """Who knows how whole bars are."""

    def get_bar_quality(self, symbol: str, interval: str) -> float:
        """Return it in per cent, 0 for an unknown pair."""


class Lane:
    """One symbol's market. Rows are those of its base series."""

    __slots__ = (
        "_begin", "_begin_rows", "_close_ns", "_closes", "_data", "_day_ends", "_day_last", "_decimal_close", "_desk",
        "_due", "_end", "_end_rows", "_half", "_half_f", "_highs", "_last_whole", "_lows", "_open_ns", "_opens",
        "_participation", "_session", "_share", "_starts", "_taken", "_turn", "_unlimited", "_volumes", "models",
        "row", "series", "symbol", "terms", "track", "working",
    )  # fmt: skip

    def __init__(self, track: Track, terms: InstrumentTerms, desk: Desk, data: HasQuality) -> None:
        self.track, self.series, self.symbol = track, track.series, track.series.symbol
        self._data = data
        self.row = track.first  # the bar that comes next
        self.working: list[WorkingOrder] = []
        self._desk, self.terms = desk, terms
        _, (opens, highs, lows, closes, volumes) = track.series.whole()
        self._starts = plain_view(track.starts)
        self._opens, self._highs, self._lows = plain_view(opens), plain_view(highs), plain_view(lows)
        self._closes, self._volumes = plain_view(closes), plain_view(volumes)
        sessions = track.sessions
        self._open_ns: list[int] = sessions.opens.tolist()
        self._close_ns: list[int] = sessions.closes.tolist()
        self._begin_rows: list[int] = track.starts.searchsorted(sessions.opens).tolist()
        self._end_rows: list[int] = track.starts.searchsorted(sessions.closes).tolist()
        # The closing auction of a session whose last bars are missing at the data's end is not known.
        self._last_whole = len(track.starts) - (int(track.ends[-1]) not in self._close_ns)
        self._session = self._begin = self._end = 0  # of the last bar that met an order, and its rows
        self._day_ends, self._day_last = 0, -1  # the session that orders of now are for
        self.models = models = desk.models
        self._half, self._half_f = models.half_spread, float(models.half_spread)
        self._participation = models.participation if models.participation is not None else _ONE
        self._share = float(self._participation)
        self._unlimited = models.participation is None or not volumes.any()
        self._taken: dict[str, Decimal] = {}  # of the bar's volume, by strategy
        self._turn = _AT_START
        self._due: list[tuple[WorkingOrder, Decimal]] = []  # stops of what was entered on the way, with its price
        self._decimal_close: tuple[int, Decimal] | None = None

    def last_close(self) -> Decimal | None:
        """Return the last visible close, None before the first bar."""
        row = self.row - 1
        if row < 0:
            return None
        if self._decimal_close is None or self._decimal_close[0] != row:
            self._decimal_close = (row, Decimal(repr(self._closes[row])))
        return self._decimal_close[1]

    @property
    def quality(self) -> float:
        """Return how complete the bars of the present session are, 0–100."""
        return self._data.get_bar_quality(*self.track.pair)

    def last_float(self) -> float:
        """Return the last visible close, infinite before the first bar."""
        return float(self._closes[self.row - 1]) if self.row else inf

    # -- when an order works

    def add(self, order: WorkingOrder, now_ns: int) -> None:
        """Take an order that is placed now; it meets the first bar that begins then or later.

        Raises: OrderDeniedError (too_late) when the auction that it waits for takes no more orders.
        """
        row = self.row
        starts = self._starts
        while row < len(starts) and starts[row] < now_ns:
            row += 1
        order.first_row = row
        terms = order.terms
        if terms is MARKET_OF_DAY or terms.tif not in ("OPG", "GTD", "GTC"):
            if now_ns >= self._day_ends:
                self._next_day(now_ns)
            order.ends_ns, order.last_row = self._day_ends, self._day_last
            if order.kind == CLOSING and now_ns >= self._day_ends - _CLOSE_DEADLINE_NS:
                raise _too_late(order)
        elif terms.tif == "OPG":
            self._wait_for_open(order, now_ns)
        elif terms.good_till is not None:
            order.ends_ns = nanos_of(terms.good_till)
            order.last_row = int(self.track.starts.searchsorted(order.ends_ns)) - 1
        self.working.append(order)

    def _next_day(self, now_ns: int) -> None:
        """Look up the session that a day order of now is for: the one that runs, or the next."""
        day = bisect_right(self._close_ns, now_ns)
        known = day < len(self._close_ns)
        self._day_ends, self._day_last = (self._close_ns[day], self._end_rows[day] - 1) if known else (NEVER, NEVER)

    def _wait_for_open(self, order: WorkingOrder, now_ns: int) -> None:
        session = bisect_right(self._open_ns, now_ns)
        if session < len(self._open_ns):
            order.ends_ns = self._open_ns[session]
            if now_ns >= order.ends_ns - _OPEN_DEADLINE_NS:
                raise _too_late(order)
            order.first_row = max(order.first_row, self._begin_rows[session])
            order.last_row = self._begin_rows[session]

    def add_exit(self, order: WorkingOrder, entry_price: Decimal) -> None:
        """Take an exit whose entry just ended: it meets what is left of the bar as far as that is known."""
        order.first_row = self.row
        self.working.append(order)
        if self._turn != _AT_START:
            order.first_row += 1
            if self._turn == _ON_THE_WAY and order.kind == STOP:
                self._due.append((order, entry_price))

    def expire(self, now_ns: int) -> None:
        """End what is over by now."""
        for order in list(self.working):
            if order.ends_ns <= now_ns and order in self.working:
                self._desk.end(order, "expired", order.ends_ns)

    # -- one bar

    def match(self, row: int) -> None:
        """Let one bar meet the working orders."""
        working = self.working
        order = working[0]
        if len(working) == 1 and order.is_plain and order.first_row <= row <= order.last_row:
            enough = self._unlimited or order.size_f <= self._volumes[row] * self._share
            if enough and (self._begin <= row < self._end or self._is_open(row)):
                # The model would say the same; a test holds both together.
                price_f = self._opens[row]
                price, remaining = Decimal(repr(price_f)), order.remaining
                if self._half:
                    price = price + self._half if order.is_buy else price - self._half
                    price_f = None
                self._desk.fill(order, remaining, price, self._starts[row], price_f)
                if working:  # exits
                    self._taken = {order.strategy: remaining}
                    self._touch(row, self._stretch(row))
                return
        self._match_all(row)
        # What is over when the bar ends is over before strategies are told of it.
        self.expire(self._desk.now_ns)

    def _is_open(self, row: int) -> bool:
        """Tell whether a bar lies within a session, and note which."""
        session = self._session
        while row >= self._end_rows[session]:
            session += 1
            if session == len(self._end_rows):
                return False
        self._session = session
        self._begin, self._end = self._begin_rows[session], self._end_rows[session]
        return row >= self._begin

    def _match_all(self, row: int) -> None:
        for order in list(self.working):
            if order.last_row < row and order in self.working:
                self._desk.end(order, "expired", order.ends_ns)
        if not self.working or not self._is_open(row):
            return
        self._taken.clear()
        stretch = self._stretch(row)
        for order in [order for order in self.working if _is_first(order, stretch)]:
            self._work(order, row, stretch)
        self._touch(row, stretch)
        for order in [order for order in self.working if order.at_once and order.first_row <= row]:
            self._desk.end(order, "cancelled", self._starts[row], "not filled at once")

    def _touch(self, row: int, stretch: Stretch) -> None:
        """What the bar reaches after its start, then its closing auction."""
        self._turn = _ON_THE_WAY
        reached = [order for order in self.working if self._may_reach(order, row)]
        if len(reached) > 1:
            # What fills at the bar's start comes first, also an exit whose entry did; then stops, for caution.
            reached.sort(key=lambda order: (not _is_first(order, stretch), _stops_first(order)))
        for order in reached:
            self._work(order, row, stretch)
        due, self._due = self._due, []
        for order, price in due:
            order.first_row = row
            self._work(order, row, rest_of(stretch, price))
            order.first_row = row + 1
        self._turn = _AT_CLOSE
        if stretch.closing is not None:
            for order in [order for order in self.working if order.kind == CLOSING]:
                self._work(order, row, stretch)
        self._turn = _AT_START

    def _stretch(self, row: int) -> Stretch:
        session = self._session
        is_last = row == self._end_rows[session] - 1 and row < self._last_whole
        opening = Decimal(repr(self._opens[row]))
        return stretch_of_bar(
            opening,
            Decimal(repr(self._highs[row])),
            Decimal(repr(self._lows[row])),
            None if self._unlimited else Decimal(repr(self._volumes[row])),
            self._half,
            opening=opening if row == self._begin_rows[session] else None,
            closing=Decimal(repr(self._closes[row])) if is_last else None,
        )

    def _may_reach(self, order: WorkingOrder, row: int) -> bool:
        """Tell whether a bar may touch an order on its way; True when in doubt."""
        kind, is_buy = order.kind, order.is_buy
        if kind == CLOSING or order.at_once:
            return False
        if kind in (MARKET, TRAIL) or order.triggered:
            return True
        if kind == LIMIT:
            margin = abs(order.limit_f) * _NEAR
            if is_buy:
                return bool(self._lows[row] + self._half_f <= order.limit_f + margin)
            return bool(self._highs[row] - self._half_f >= order.limit_f - margin)
        margin = abs(order.stop_f) * _NEAR
        if is_buy is (kind == STOP):
            return bool(self._highs[row] >= order.stop_f - margin)
        return bool(self._lows[row] <= order.stop_f + margin)

    def _work(self, order: WorkingOrder, row: int, stretch: Stretch) -> None:
        """Let the model match one order, once."""
        if order.first_row > row or order not in self.working or order.looked_row == row:
            return
        if self._turn == _AT_CLOSE or order.terms.tif == "OPG":
            stretch = replace(stretch, volume=None)  # an auction takes every order whole
        order.looked_row = row
        outcome = match(
            order.for_model(), stretch, participation=self._participation, lot=self.terms.lot, tick=self.terms.tick
        )
        if outcome.stop is not None:
            order.stop = outcome.stop
        order.triggered = order.triggered or outcome.triggered
        quantity = self._granted(order, outcome, stretch)
        if quantity > 0:
            at_close = self._turn == _AT_CLOSE
            self._desk.fill(
                order, quantity, outcome.price, int(self.track.ends[row]) if at_close else self._starts[row]
            )

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


def warnings_of(track: Track, models: Models) -> list[str]:
    """Return what the bars of a run leave unsaid."""
    symbol, told = track.series.symbol, []
    _, (*_, volumes) = track.series.whole()
    if models.participation is not None and not volumes.any():
        told.append(f"{symbol} has no volumes: its orders fill whole.")
    starts = track.starts[track.first : track.last]
    rows = starts.searchsorted(track.sessions.opens), starts.searchsorted(track.sessions.closes)
    outside = len(starts) - int((rows[1] - rows[0]).sum())
    if outside:
        told.append(
            f"{outside} of {len(starts)} bars of {symbol} lie outside the sessions of {track.sessions.group}: "
            "strategies see them, orders wait."
        )
    return told


def _is_first(order: WorkingOrder, stretch: Stretch) -> bool:
    """Tell whether an order fills at a bar's start, if the volume allows."""
    kind, is_buy = order.kind, order.is_buy
    if kind == MARKET or order.terms.tif == "OPG":
        return True
    if kind == CLOSING:
        return False
    if kind != LIMIT and not order.triggered:
        if order.stop is None:
            return False
        rising = is_buy is not (kind == TOUCH)
        if not (stretch.last >= order.stop if rising else stretch.last <= order.stop):
            return False
    if order.limit is None:
        return kind != TRAIL or order.terms.limit_offset is None
    return stretch.ask <= order.limit if is_buy else stretch.bid >= order.limit


def _stops_first(order: WorkingOrder) -> bool:
    return order.kind not in (STOP, TRAIL)


def _too_late(order: WorkingOrder) -> OrderDeniedError:
    return OrderDeniedError(
        f"The auction that a {order.terms.order_type} waits for takes no more orders.", code="too_late"
    )
