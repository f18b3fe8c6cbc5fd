"""The compiled loop: one symbol whose wanted positions are an array, through all its bars, in whole numbers.

Owns: the loop. Leaves: what may be run by it (``compiled_market``), what came out as objects (``compiled``), many
parameter sets (``compiled_sweep``). The engine runs the same strategy bar by bar; tests hold both to the same fills.
Rule: money is counted in hundred-millionths (``UNIT``) of the currency and prices in a power of ten of it, so that
every sum is exact; nothing is rounded but what the books round, a fee to a millionth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

UNIT = 100_000_000
NEVER = 1 << 62
OPEN, FILLED, EXPIRED, CANCELLED, NO_CASH, NO_SHORT = range(6)
"""States of an order."""

CASH, HELD = 0, 1
PENDING, ORDER, DONE, WORTH, FEE, FROM, TO, ENDS = range(2, 10)
"""Of the order that works: what is left of it, its number, what it filled, for how much, its fee so far, its rows, its
end."""
SESSION, DAY = 10, 11
"""The sessions that bars and orders have come to."""
FEES, PLACED, FILLS, DENIED, INSIDE, REFUSED, REFUSED_TARGET = range(12, 19)
STATES = 19
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


# Parts are written into the loop: a call would count references of every array, at the cost of forty bars.
part = njit(inline="always")


class Bars(NamedTuple):
    """What the loop reads of bars and sessions. ``begin_rows`` and ``end_rows`` bound the rows of each session."""

    opens: Floats
    closes: Floats
    volumes: Floats
    starts: Ints
    ends: Ints
    begin_rows: Ints
    end_rows: Ints
    close_ns: Ints


class Terms(NamedTuple):
    """What the loop needs of models and instrument, in whole numbers.

    ``scale`` are price units to the currency; ``unit`` is the money of one price unit of one instrument unit;
    ``share_num / share_den`` is the part of a volume, 0 where it is unlimited; fees are those of
    ``brokers.fees.FixedStockFees``, the largest share as a fraction whose ``most_den`` is 0 where there are none.
    """

    scale: int
    unit: int
    half: int
    share_num: int
    share_den: int
    allow_short: bool
    check_cash: bool
    per_unit: int
    minimum: int
    most_num: int
    most_den: int


@part
def total_fee(units: int, worth: int, terms: Terms) -> int:
    """Return what an order of so many units and so much value has cost."""
    if terms.most_den == 0 or units == 0:
        return 0
    fee = max(units * terms.per_unit, terms.minimum)
    if fee * terms.most_den <= worth * terms.most_num:  # a division costs as much as ten bars
        return fee
    return worth * terms.most_num // terms.most_den


@part
def millionth(amount: int) -> int:
    """Return an amount rounded to a millionth, half to even."""
    whole, rest = divmod(amount, 100)
    if rest > 50 or (rest == 50 and whole & 1):
        whole += 1
    return whole * 100


@part
def in_units(price: float, terms: Terms) -> int:
    """Return a price in the loop's units."""
    return int(np.rint(price * terms.scale))


@part
def close_order(state: Ints, orders: Ints, how: int, when: int) -> None:
    """End the order that works."""
    if state[ORDER] < orders.shape[1]:
        orders[3, state[ORDER]], orders[4, state[ORDER]] = how, when
    state[PENDING] = 0


@part
def meet(
    row: int,
    opens: Floats,
    volumes: Floats,
    starts: Ints,
    begin_rows: Ints,
    end_rows: Ints,
    terms: Terms,
    state: Ints,
    orders: Ints,
    fills: Ints,
) -> None:
    """Let a bar meet the order that works, before its day is over."""
    session = state[SESSION]
    while session < len(end_rows) and row >= end_rows[session]:
        session += 1
    state[SESSION] = session
    if row < state[FROM] or session == len(end_rows) or row < begin_rows[session]:
        return
    units = abs(state[PENDING])
    if terms.share_num == terms.share_den:
        units = min(units, int(volumes[row]))
    elif terms.share_num:
        units = min(units, int(volumes[row]) * terms.share_num // terms.share_den)
    if units > 0:
        execute(row, units if state[PENDING] > 0 else -units, opens[row], starts[row], terms, state, orders, fills)


@part
def execute(row: int, signed: int, at: float, when: int, terms: Terms, state: Ints, orders: Ints, fills: Ints) -> None:
    """Book an execution at the bar's open."""
    price = in_units(at, terms) + (terms.half if signed > 0 else -terms.half)
    state[DONE] += abs(signed)
    state[WORTH] += abs(signed) * price * terms.unit
    after = total_fee(state[DONE], state[WORTH], terms)
    fee = millionth(after - state[FEE])
    state[FEE] = after
    state[FEES] += fee
    state[CASH] -= signed * price * terms.unit + fee
    state[HELD] += signed
    state[PENDING] -= signed
    place = state[FILLS]
    state[FILLS] += 1
    if place < fills.shape[1]:
        fills[0, place], fills[1, place], fills[2, place] = row, state[ORDER], signed
        fills[3, place], fills[4, place] = price, fee
        orders[2, state[ORDER]] = state[DONE]
    if state[PENDING] == 0:
        close_order(state, orders, FILLED, when)


@part
def is_new(target: float, state: Ints) -> bool:
    """Tell whether a target asks for an order: it is none that was refused, and not where the position goes already."""
    if target != target or (state[REFUSED] and target == state[REFUSED_TARGET]):
        return False
    state[REFUSED] = 0
    return bool(target != state[HELD] + state[PENDING])


@part
def aim(
    row: int,
    target: int,
    close: float,
    starts: Ints,
    now: int,
    end_rows: Ints,
    close_ns: Ints,
    terms: Terms,
    state: Ints,
    orders: Ints,
) -> None:
    """Order what leads to a target, at the moment ``now``, at which the bar ended."""
    if state[PENDING] != 0:
        close_order(state, orders, CANCELLED, now)
    held = state[HELD]
    change = target - held
    if change == 0:
        return
    how = OPEN
    if change < 0 and not terms.allow_short and -change > held:
        how = NO_SHORT if held <= 0 else OPEN
        change = change if held <= 0 else -held
    cost = free = 0
    if how == OPEN and terms.check_cash:
        cost, free = afford(change, close, terms, state)
        how = NO_CASH if cost > free else OPEN
    place = state[PLACED]
    state[PLACED] += 1
    if place < orders.shape[1]:
        orders[0, place], orders[1, place], orders[2, place] = row, change, 0
        orders[3, place], orders[4, place] = how, now
        orders[5, place], orders[6, place] = cost, free
    if how != OPEN:
        if place < orders.shape[1]:
            orders[2, place] = opening_units(state[HELD], change)
        state[DENIED] += 1
        state[REFUSED], state[REFUSED_TARGET] = 1, target
        return
    state[ORDER], state[PENDING] = place, change
    start_order(row, now, starts, end_rows, close_ns, state)


@part
def opening_units(held: int, change: int) -> int:
    """Return how much of a change opens or adds; see ``signal_rules.opening_part``."""
    if held != 0 and (held > 0) != (change > 0):
        return max(abs(change) - abs(held), 0)
    return abs(change)


@part
def afford(change: int, last: float, terms: Terms, state: Ints) -> tuple[int, int]:
    """Return what the opening part of a change would cost, and what is free; nothing of both for what only closes."""
    opened = opening_units(state[HELD], change)
    if opened == 0:
        return 0, 0
    close = in_units(last, terms)
    cost = opened * close * terms.unit
    free = state[CASH]
    if state[HELD] < 0:
        free += 2 * state[HELD] * close * terms.unit
    if cost + cost <= free:  # no schedule asks for more than the value
        return cost, free
    return cost + total_fee(opened, cost, terms), free


@part
def start_order(row: int, now: int, starts: Ints, end_rows: Ints, close_ns: Ints, state: Ints) -> None:
    """Find out from which bar on an order works, and until when."""
    state[DONE] = state[WORTH] = state[FEE] = 0
    first = row + 1
    while first < len(starts) and starts[first] < now:
        first += 1
    day = state[DAY]
    while day < len(close_ns) and close_ns[day] <= now:
        day += 1
    state[FROM], state[DAY] = first, day
    if day < len(close_ns):
        state[TO], state[ENDS] = end_rows[day] - 1, close_ns[day]
    else:
        state[TO] = state[ENDS] = NEVER


@part
def expire(now: int, state: Ints, orders: Ints) -> None:
    """End the order that works when its day is over."""
    if state[PENDING] != 0 and state[ENDS] <= now:
        close_order(state, orders, EXPIRED, state[ENDS])


@part
def note(
    equity: float, before: float, peak: float, drawdown: float, total: float, squares: float
) -> tuple[float, float, float, float, float]:
    """Take a new equity into the figures: the last one, the highest, the drawdown, the sums of returns and squares.

    The drawdown is divided out only where it is a new largest one: a division costs as much as the rest. There is none
    from nothing.
    """
    change = (equity - before) / before if before != 0.0 else 0.0
    if equity > peak:
        peak = equity
    elif equity < peak * (1.0 - drawdown) and peak > 0.0:
        drawdown = 1.0 - equity / peak
    return equity, peak, drawdown, total + change, squares + change * change


@njit(cache=True, nogil=True, error_model="numpy")
def walk(
    targets: Floats,
    opens: Floats,
    closes: Floats,
    volumes: Floats,
    starts: Ints,
    ends: Ints,
    begin_rows: Ints,
    end_rows: Ints,
    close_ns: Ints,
    terms: Terms,
    rows: tuple[int, int, int],
    state: Ints,
    figures: Floats,
    orders: Ints,
    fills: Ints,
    curve: Floats,
) -> int:
    """Go through bars ``rows[1]`` to ``rows[2]`` (excluded) of a run that began at ``rows[0]``; return where it stops.

    ``figures`` are the last equity, the highest, the largest drawdown and the sums of returns and their squares; equity
    is counted in units, as money is. ``orders`` have 7 rows: placed at, units, filled (of a refused one: what it would
    open), state, ended, cost, free; ``fills`` 5: bar, order, units, price, fee. When either is full it stops, to go on
    with more room; without columns they are only counted. An empty ``curve`` is not written.
    """
    room = min(orders.shape[1], fills.shape[1])
    held, cash, asks_again = state[HELD], state[CASH], state[REFUSED]
    before, peak, drawdown, total, squares = figures
    stopped = rows[2]
    for row in range(rows[1], rows[2]):
        target = targets[row]
        if state[PENDING] != 0 or (target == target and (target != held or asks_again)):
            if room and max(state[PLACED], state[FILLS]) >= room:
                stopped = row
                break
            if state[PENDING] != 0 and row <= state[TO]:
                meet(row, opens, volumes, starts, begin_rows, end_rows, terms, state, orders, fills)
            expire(ends[row], state, orders)
            if is_new(target, state):
                aim(row, int(target), closes[row], starts, ends[row], end_rows, close_ns, terms, state, orders)
            held, cash, asks_again = state[HELD], state[CASH], state[REFUSED]
        equity = float(cash)
        if held != 0:
            equity = float(cash + held * in_units(closes[row], terms) * terms.unit)
            state[INSIDE] += 1
        if len(curve):
            curve[row - rows[0]] = equity / UNIT
        if equity != before:
            before, peak, drawdown, total, squares = note(equity, before, peak, drawdown, total, squares)
    figures[:] = before, peak, drawdown, total, squares
    return stopped
