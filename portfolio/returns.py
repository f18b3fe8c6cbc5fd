"""Returns of an owner over time, with the money that came from or went to outside taken out.

Owns: which movements are flows, the chain of returns, what single executions earned and cost.
Leaves: ratios over them (``metrics``), what is asked for (``analytics``).
Rule: between two hourly equities E0 and E1 with inflows I and outflows O the return is (E1 + O) / (E0 + I) − 1: what
came works from the start, what left worked to the end. The chain of hours makes the day, so that a deposit is no gain.
A day is a UTC day; what Saturday and Sunday bring counts to Monday, so that a year has 261 days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from django.db.models import Q

from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ZERO, exact
from portfolio.models import AdjustmentKind, EquitySnapshot, Execution, Movement, MovementKind

RatesAt = Callable[[datetime], Rates]

DAYS_A_YEAR = 261
FLOW_KINDS = (
    MovementKind.OPENING,
    MovementKind.ALLOCATION,
    MovementKind.TRANSFER,
    MovementKind.DEPOSIT,
    MovementKind.WITHDRAWAL,
)
OUTER_KINDS = (MovementKind.OPENING, MovementKind.DEPOSIT, MovementKind.WITHDRAWAL)
_FLOW_EVENTS = (
    AdjustmentKind.DEPOSIT,
    AdjustmentKind.WITHDRAWAL,
    AdjustmentKind.TRANSFER_CASH,
    AdjustmentKind.TRANSFER_POSITION,
    AdjustmentKind.REBALANCE,
    AdjustmentKind.RECEIPT,
    AdjustmentKind.DELIVERY,
)
_OUTER_EVENTS = (
    AdjustmentKind.DEPOSIT,
    AdjustmentKind.WITHDRAWAL,
    AdjustmentKind.RECEIPT,
    AdjustmentKind.DELIVERY,
)
_HALF_AT_MOST = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Flow:
    """Money or positions that came (positive) or left at one moment, in the owner's currency."""

    at: datetime
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Point:
    """An owner's equity at one moment."""

    at: datetime
    equity: Decimal


@dataclass(frozen=True, slots=True)
class Trade:
    """What one execution did for its owner, in the owner's currency; ``gross`` is what it realised before its fee."""

    at: datetime
    traded: Decimal  # absolute value
    fee: Decimal
    gross: Decimal


def equity_points(account_id: str, owner: str, since: datetime | None, until: datetime) -> list[Point]:
    """Return an owner's equity about once an hour, oldest first, and at its newest; owner "" is the account."""
    rows = EquitySnapshot.objects.filter(account_id=account_id, owner=owner, taken_at__lte=until)
    if since is not None:
        rows = rows.filter(taken_at__gte=since)
    kept = dict(rows.filter(grain__gte=3_600).values_list("taken_at", "equity"))
    kept.update(rows.order_by("-taken_at").values_list("taken_at", "equity")[:1])
    return [Point(at, kept[at]) for at in sorted(kept)]


def flows_of(
    account_id: str,
    owner: str,
    since: datetime | None,
    until: datetime,
    currency: str,
    rates: Rates,
    *,
    rates_at: RatesAt | None = None,
) -> list[Flow]:
    """Return what came to or left an owner in (since, until], oldest first.

    A position that is transferred counts with the price at which it was booked; a fill that is assigned to another
    owner is no flow, because it counts as that owner's from the start. Other currencies at the rates of the moment, or
    at those given.
    For the account only what crosses its border counts, at the time when it happened.
    Raises: LedgerError fx_unknown.
    """
    kinds, undone = (FLOW_KINDS, _FLOW_EVENTS) if owner else (OUTER_KINDS, _OUTER_EVENTS)
    is_flow = Q(kind__in=kinds) | Q(kind=MovementKind.REVERSAL, adjustment__kind__in=undone)
    rows = Movement.objects.filter(is_flow, account_id=account_id).select_related("instrument", "adjustment")
    if owner:
        rows = rows.filter(owner=owner)
    found = []
    for row in rows.order_by("id"):
        at = row.adjustment.effective_at if row.adjustment is not None and not owner else row.booked_at
        if (since is None or at > since) and at <= until:
            amount = _flow_amount(row, currency, rates_at(at) if rates_at else rates)
            found += [Flow(at, amount)] if amount else []
    return sorted(found, key=lambda flow: flow.at)


def _flow_amount(row: Movement, currency: str, rates: Rates) -> Decimal:
    amount = rates.convert(row.cash, row.currency, currency) if row.cash else ZERO
    if row.instrument is not None and row.quantity and row.price is not None:
        value = exact(row.quantity * row.price * row.instrument.multiplier)
        amount += rates.convert(value, row.instrument.currency, currency)
    return amount


def daily_returns(points: Sequence[Point], flows: Sequence[Flow]) -> dict[date, float]:
    """Chain the returns between points into days; days without points are left out.

    >>> noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    >>> later = noon + timedelta(hours=1)
    >>> daily_returns([Point(noon, Decimal(100)), Point(later, Decimal(210))], [Flow(later, Decimal(100))])
    {datetime.date(2026, 3, 2): 0.05}
    """
    chained: dict[date, Decimal] = {}
    waiting = iter(flows)
    flow = next(waiting, None)
    for before, after in pairwise(points):
        came = left = ZERO
        while flow is not None and flow.at <= after.at:
            if flow.at > before.at:
                came, left = came + max(flow.amount, ZERO), left - min(flow.amount, ZERO)
            flow = next(waiting, None)
        base = before.equity + came
        if base <= 0:
            continue  # nothing was at work: there is no return on nothing
        day = _day(before.at, after.at)
        chained[day] = chained.get(day, Decimal(1)) * (after.equity + left) / base
    return {day: float(growth - 1) for day, growth in chained.items()}


def _day(start: datetime, end: datetime) -> date:
    """Return the weekday that a stretch of time counts to; of a long one that of its end."""
    day = (end - min((end - start) / 2, _HALF_AT_MOST)).astimezone(UTC).date()
    return day + timedelta(days=max(0, 7 - day.weekday())) if day.weekday() > 4 else day


def trades_of(
    account_id: str,
    owner: str,
    since: datetime | None,
    until: datetime,
    currency: str,
    rates: Rates,
    *,
    rates_at: RatesAt | None = None,
) -> list[Trade]:
    """Return what each execution traded, cost and realised for an owner, oldest first; owner "" is everybody.

    What an execution's cash is beyond quantity × price is its fee; corrected and reassigned parts cancel out.
    Raises: LedgerError fx_unknown.
    """
    done = Execution.objects.filter(account_id=account_id, superseded=False, executed_at__lte=until)
    if since is not None:
        done = done.filter(executed_at__gt=since)
    rows = Movement.objects.filter(account_id=account_id, execution__in=done)
    if owner:
        rows = rows.filter(owner=owner)
    columns = (
        "execution_id",
        "execution__executed_at",
        "currency",
        "cash",
        "realized_pnl",
        "quantity",
        "execution__price",
        "instrument__currency",
        "instrument__multiplier",
    )
    sums: dict[int, list[Decimal]] = {}
    times: dict[int, datetime] = {}
    for key, at, source, cash, realized, quantity, price, traded_in, multiplier in rows.values_list(*columns):
        then = rates if rates_at is None or source == traded_in == currency else rates_at(at)
        value = then.convert(exact(quantity * price * multiplier), traded_in, currency) if quantity else ZERO
        paid = then.convert(cash, source, currency) if cash else ZERO
        gained = then.convert(realized, source, currency) if realized else ZERO
        one = sums.setdefault(key, [ZERO, ZERO, ZERO])
        one[0], one[1], one[2] = one[0] + value, one[1] - paid - value, one[2] + gained
        times[key] = at
    return sorted(_trades(sums, times), key=lambda trade: trade.at)


def _trades(sums: dict[int, list[Decimal]], times: dict[int, datetime]) -> Iterable[Trade]:
    for key, (value, fee, net) in sums.items():
        if value or fee or net:
            yield Trade(times[key], abs(value), fee, net + fee)
