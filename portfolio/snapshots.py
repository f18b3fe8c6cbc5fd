"""Keep prices and equity over time.

Owns: marks and equity snapshots, and how they thin with age. Rule: one moment for all owners of a snapshot; an owner
that cannot be valued (a price or rate is missing) is left out rather than written with an invented number.

Each snapshot is written with its grain: the coarsest of ``GRIDS`` in whose present cell its owner has none yet. So
thinning needs no look at neighbours (it deletes what is old and fine), and a chart of any length reads one grid.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from portfolio.accounts import net_liquidation, rates_of
from portfolio.bulk import insert_rows, upsert_rows
from portfolio.facts import EquityFact
from portfolio.fx_rates import to_decimal
from portfolio.instruments import marks_in_money
from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ZERO, exact
from portfolio.models import AccountValue, EquitySnapshot, Mark
from portfolio.valuation import Value, all_figures, owners_of, value_of
from strategies.exceptions import LedgerError

logger = logging.getLogger(__name__)

GRIDS = (60, 300, 900, 3_600, 14_400, 86_400)  # seconds; each divides the next, all divide the UTC day
# An hour more than a day: the profit of a day is measured against the last snapshot of the day before.
KEEP_ALL = timedelta(hours=25)
KEEP_FIVE_MINUTES = timedelta(days=90)
THIN_ROWS = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def record_marks(marks: Mapping[int, Decimal], at: datetime) -> None:
    """Keep the latest price of each instrument that the ledger knows; prices that are no number are left out."""
    usable = {con_id: exact(price) for con_id, price in marks.items() if price.is_finite()}
    rows = [(con_id, price, at, None) for con_id, price in marks_in_money(usable).items()]
    upsert_rows(Mark, ("instrument_id", "price", "marked_at", "silent_since"), ("instrument_id",), rows)


def note_silence(con_ids: Collection[int], since: datetime) -> int:
    """Flag the marks of instruments whose prices stopped; the next price ends it. Return how many were flagged."""
    return Mark.objects.filter(instrument_id__in=con_ids, silent_since=None).update(silent_since=since)


def take_equity_snapshot(account_id: str, at: datetime) -> list[EquityFact]:
    """Write the equity of every owner and of the account (owner empty) at one moment, and return it.

    Running it twice for the same moment writes once. Each call also thins what has become old, so that the table stops
    growing: a snapshot in, a snapshot out.
    """
    try:
        rates = rates_of(account_id)
    except LedgerError as error:
        logger.info("no equity snapshot account=%s reason=%s", account_id, error.code)
        return []
    with transaction.atomic():
        if EquitySnapshot.objects.filter(account_id=account_id, taken_at=at).exists():
            return []
        facts, complete = _owners(account_id, rates)
        account = _account(account_id, rates, facts if complete else None)
        if account is not None:
            facts.append(account)
        insert_rows(
            EquitySnapshot,
            (
                "account_id",
                "owner",
                "taken_at",
                "currency",
                "equity",
                "cash",
                "realized_pnl",
                "unrealized_pnl",
                "grain",
            ),
            _rows(account_id, facts, at),
        )
        thin_equity_snapshots(at)
    return facts


def thin_equity_snapshots(now: datetime, limit: int = THIN_ROWS) -> int:
    """Delete old snapshots of a fine grain, at most ``limit`` of each age; return how many went.

    All of the last 25 hours stay, one each five minutes for 90 days, one each hour for ever. Cheap when nothing is due:
    two look-ups in an index.
    """
    return _delete(300, now - KEEP_ALL, limit) + _delete(3_600, now - KEEP_FIVE_MINUTES, limit)


def _delete(below: int, before: datetime, limit: int) -> int:
    fine = [grain for grain in (0, *GRIDS) if grain < below]
    due = EquitySnapshot.objects.filter(grain__in=fine, taken_at__lt=before).values("id")[:limit]
    return EquitySnapshot.objects.filter(id__in=due).delete()[0]


def grain_of(at: datetime, previous: datetime | None) -> int:
    """Return the coarsest grid in whose cell of ``at`` there is no snapshot yet; 0 when all have one.

    >>> noon = datetime(2026, 3, 2, 12, 5, tzinfo=UTC)
    >>> grain_of(noon, None), grain_of(noon, noon - timedelta(seconds=10)), grain_of(noon, noon)
    (86400, 300, 0)
    """
    if previous is None:
        return GRIDS[-1]
    second, before = timedelta(seconds=1), previous - _EPOCH
    here = at - _EPOCH
    return max((grid for grid in GRIDS if here // (grid * second) != before // (grid * second)), default=0)


def _rows(account_id: str, facts: Sequence[EquityFact], at: datetime) -> list[tuple[object, ...]]:
    earlier = EquitySnapshot.objects.filter(account_id=account_id, taken_at__lt=at)
    last = earlier.order_by("-taken_at").values_list("taken_at", flat=True).first()
    in_last = set() if last is None else set(earlier.filter(taken_at=last).values_list("owner", flat=True))

    def _before(owner: str) -> datetime | None:
        if owner in in_last:
            return last  # of almost all: one moment is one query
        return earlier.filter(owner=owner).order_by("-taken_at").values_list("taken_at", flat=True).first()

    return [
        (
            account_id,
            fact.owner,
            at,
            fact.currency,
            fact.equity,
            fact.cash,
            fact.realized_pnl,
            fact.unrealized_pnl,
            grain_of(at, _before(fact.owner)),
        )
        for fact in facts
    ]


def _owners(account_id: str, rates: Rates) -> tuple[list[EquityFact], bool]:
    """Value every owner; the flag says whether all could be."""
    facts, complete = [], True
    for owner, found in all_figures(account_id, owners_of(account_id), rates, timezone.now()).items():
        try:
            facts.append(_fact(owner, value_of(owner, found)))
        except LedgerError as error:
            logger.info("owner not valued owner=%s reason=%s", owner, error.code)
            complete = False
    return facts, complete


def _fact(owner: str, value: Value) -> EquityFact:
    return EquityFact(owner, value.equity, value.cash, value.realized_pnl, value.unrealized_pnl, value.currency)


def _account(account_id: str, rates: Rates, owners: list[EquityFact] | None) -> EquityFact | None:
    """Return IB's net liquidation with the sums of the books beside it; None while IB has not said it."""
    try:
        equity = net_liquidation(account_id, rates.base)
    except LedgerError:
        return None
    row = AccountValue.objects.filter(account_id=account_id, tag="TotalCashValue", currency=rates.base).first()
    return EquityFact(
        owner="",
        equity=exact(equity),
        cash=None if row is None else _exact_or_none(row.value),
        realized_pnl=_total(owners, "realized_pnl", rates),
        unrealized_pnl=_total(owners, "unrealized_pnl", rates),
        currency=rates.base,
    )


def _exact_or_none(text: str) -> Decimal | None:
    value = to_decimal(text)
    return None if value is None else exact(value)


def _total(owners: list[EquityFact] | None, name: str, rates: Rates) -> Decimal | None:
    if owners is None:
        return None
    return sum((rates.convert(getattr(fact, name), fact.currency, rates.base) for fact in owners), ZERO)
