"""Exchange rates in the database: those of the moment, those of the past, and how they are kept.

Owns: the rate table of an account (IB's ExchangeRate with the account's figures, then the dated rates), recording and
thinning. Leaves: asking IB for a price (``trading.market.fx_source``), the arithmetic (``ledger.fx``).
Rule: a rate that is no positive number is not kept; BASE rows are no currency.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

from django.conf import settings
from django.db import transaction

from portfolio.ledger.fx import ACCOUNT, DELAYED, Quote, Rates, better, is_rate
from portfolio.ledger.money import exact
from portfolio.models import Account, AccountValue, CashBalance, FxRate, Position
from strategies.exceptions import LedgerError
from strategies.models import Strategy

FRESH = timedelta(minutes=15)  # IB repeats the account's figures every three minutes, MATS stores them every five
FRESH_IN_PAST = timedelta(hours=1) + FRESH  # old rates are thinned to one an hour
SHORTEST = timedelta(minutes=1)
REPEAT = timedelta(minutes=5)  # an unchanged rate is said again, so that the past knows it from one that was missing
KEEP_ALL = timedelta(hours=25)
KEEP_FIVE_MINUTES = timedelta(days=90)
LOOK_BACK = timedelta(days=2)
THIN_ROWS = 5_000


def stale_limit() -> timedelta:
    """Return the age up to which a rate may still decide something; the setting MATS_FX_STALE_LIMIT_S."""
    return timedelta(seconds=settings.MATS.fx_stale_limit_s)


def base_currency_of(account_id: str) -> str:
    """Return the account's base currency.

    Raises: LedgerError code base_currency_unknown until IB has said it.
    """
    base = Account.objects.filter(account_id=account_id).values_list("base_currency", flat=True).first()
    if not base:
        raise LedgerError(f"The base currency of account {account_id} is not known yet.", code="base_currency_unknown")
    return base


def present_rates(account_id: str, now: datetime) -> Rates:
    """Return the best known rate of each currency, of any age, those older than ``FRESH`` flagged stale.

    Raises: LedgerError while the base currency is unknown.
    """
    base = base_currency_of(account_id)
    quotes = dict(_account_quotes(account_id, now))
    for row in _latest(base, None):
        if (chosen := better(quotes.get(row.currency), _dated(row, now, FRESH))) is not None:
            quotes[row.currency] = chosen
    return Rates.of_quotes(base, quotes)


def _account_quotes(account_id: str, now: datetime) -> Iterator[tuple[str, Quote]]:
    rows = AccountValue.objects.filter(account_id=account_id, tag="ExchangeRate")
    for currency, text, at in rows.values_list("currency", "value", "updated_at"):
        worth = _rate(to_decimal(text))
        if currency not in ("", "BASE") and worth is not None:
            yield currency, Quote(worth, at, ACCOUNT, now - at > FRESH)


def _latest(base: str, moment: datetime | None) -> Iterator[FxRate]:
    """Give the last row of each currency up to a moment: one look-up in the index each, whatever the table holds."""
    rows = FxRate.objects.filter(base=base).order_by("-currency", "-at")
    if moment is not None:
        rows = rows.filter(at__lte=moment)
    row = rows.first()
    while row is not None:
        yield row
        row = rows.filter(currency__lt=row.currency).first()


def _dated(row: FxRate, moment: datetime, fresh: timedelta) -> Quote:
    return Quote(row.worth, row.at, row.source, row.source == DELAYED or moment - row.at > fresh)


def to_decimal(text: str) -> Decimal | None:
    """Return the number in one of IB's texts, None when it is none."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def rates_at(account_id: str, moment: datetime) -> Rates:
    """Return the rates as they were last recorded at a moment of the past, those too far before it flagged stale.

    Raises: LedgerError while the base currency is unknown.
    """
    base = base_currency_of(account_id)
    return Rates.of_quotes(base, {row.currency: _dated(row, moment, FRESH_IN_PAST) for row in _latest(base, moment)})


def wanted_currencies(account_id: str) -> list[str]:
    """Return the currencies that the books need a rate of: strategies', of cash that is there, of what is held."""
    strategies = Strategy.objects.values_list("currency", flat=True)
    balances = CashBalance.objects.filter(account_id=account_id).values_list("currency", "amount", "realized_apart")
    held = Position.objects.filter(account_id=account_id).values_list("instrument__currency", flat=True).distinct()
    cash = {currency for currency, amount, apart in balances if amount or apart}
    return sorted({*strategies, *cash, *held} - {base_currency_of(account_id), ""})


def record_account_rates(account_id: str, rows: Sequence[tuple[str, str, str]], at: datetime) -> int:
    """Keep the rates among IB's account figures ``(tag, value, currency)``; none while the base currency is unknown."""
    worths = {
        currency: to_decimal(value) for tag, value, currency in rows if tag == "ExchangeRate" and currency != "BASE"
    }
    if not worths or not Account.objects.filter(pk=account_id).exclude(base_currency="").exists():
        return 0
    return record_rates(account_id, worths, at)


def record_rates(account_id: str, worths: Mapping[str, Decimal | None], at: datetime, source: str = ACCOUNT) -> int:
    """Append what changed, at most one a minute and currency, and what stood for five minutes; return how many.

    ``worths`` are base units for one unit. What is no rate (NaN, zero, negative) is left out, and what is older than
    the last that was kept.
    Raises: LedgerError while the base currency is unknown.
    """
    base = base_currency_of(account_id)
    last = {row.currency: row for row in _latest(base, None)}
    rows = []
    for currency, value in sorted(worths.items()):
        worth = _rate(value)
        if currency in ("", base) or worth is None:
            continue
        if _is_news(last.get(currency), worth, at, source):
            rows.append(FxRate(base=base, currency=currency, worth=worth, source=source, at=at))
    with transaction.atomic():
        FxRate.objects.bulk_create(rows, ignore_conflicts=True)
        if any(_starts_an_hour(last.get(row.currency), at) for row in rows):
            thin_rates(base, at)
    return len(rows)


def _rate(value: Decimal | None) -> Decimal | None:
    worth = exact(value) if is_rate(value) else None
    return worth or None  # too small for the quantum is no rate either


def _is_news(last: FxRate | None, worth: Decimal, at: datetime, source: str) -> bool:
    if last is None:
        return True
    waited = at - last.at
    return waited >= REPEAT or (waited >= SHORTEST and (worth, source) != (last.worth, last.source))


def _starts_an_hour(last: FxRate | None, at: datetime) -> bool:
    return last is not None and last.at.replace(minute=0, second=0, microsecond=0) != at.replace(
        minute=0, second=0, microsecond=0
    )


def thin_rates(base: str, now: datetime) -> int:
    """Delete what grew old and is too fine; return how many went.

    All of the last 25 hours stay, one each five minutes for 90 days, one each hour for ever. Each call looks at what
    became old in the last two days, so what stood there when an engine was off for longer stays finer than it need be.
    """
    fine = _too_fine(base, now - KEEP_ALL - LOOK_BACK, now - KEEP_ALL, 300)
    coarse = _too_fine(base, now - KEEP_FIVE_MINUTES - LOOK_BACK, now - KEEP_FIVE_MINUTES, 3_600)
    return FxRate.objects.filter(id__in=[*fine, *coarse]).delete()[0]


def _too_fine(base: str, since: datetime, until: datetime, grid_s: int) -> list[int]:
    """Give the rows that are not the first booked of a cell and currency; the projection takes that one too."""
    rows = FxRate.objects.filter(base=base, at__gte=_cell_start(since, grid_s), at__lt=_cell_start(until, grid_s))
    seen: set[tuple[str, datetime]] = set()
    found = []
    for row_id, currency, at in rows.order_by("currency", "id").values_list("id", "currency", "at"):
        cell = (currency, _cell_start(at, grid_s))
        if cell in seen:
            found.append(row_id)
        seen.add(cell)
    return found[:THIN_ROWS]


def _cell_start(at: datetime, grid_s: int) -> datetime:
    return datetime.fromtimestamp(int(at.timestamp()) // grid_s * grid_s, UTC)
