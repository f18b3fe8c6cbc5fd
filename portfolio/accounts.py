"""Open an account's books and hand out its cash.

Owns: opening balances, allocations, IB's account figures and the rates among them. Rule: each of these happens once,
known by the movement's key; what MATS found in the account belongs to Discretionary until it is allocated.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.db import transaction

from portfolio.books import Books, Line
from portfolio.bulk import select_rows, upsert_rows
from portfolio.changes import books_changed
from portfolio.facts import AccountRow, BrokerPosition, CashFact, FoldResult
from portfolio.fold import COMBINATION, OwnerOf, fold_batch
from portfolio.fx_rates import present_rates, record_account_rates, stale_limit
from portfolio.fx_rates import to_decimal as to_decimal
from portfolio.instruments import ensure_instruments, fill_in_money, marks_in_money
from portfolio.ledger.cash import fill_cash
from portfolio.ledger.fx import Rates
from portfolio.ledger.money import ZERO, exact
from portfolio.ledger.opening import DayFill, Holding, opening_cash, opening_holding
from portfolio.ledger.positions import PositionState
from portfolio.ledger.revisions import split_exec_id
from portfolio.ledger.validity import UNSUPPORTED, check_fill
from portfolio.models import Account, AccountValue, Movement, MovementKind, PendingCommission
from portfolio.parking import park
from strategies.events import CommissionSnapshot, ContractSnapshot, FillSnapshot
from strategies.exceptions import LedgerError, NotFoundError
from strategies.models import DISCRETIONARY, Strategy
from strategies.ordering import take_turn

logger = logging.getLogger(__name__)

Fees = dict[str, tuple[Decimal, str]]
NET_FRESH = timedelta(hours=1)  # every check of the books confirms it, every five minutes at least


def ensure_account(account_id: str, base_currency: str = "") -> Account:
    """Return the account's row, made when missing; its base currency is set once known.

    Raises: LedgerError when the base currency contradicts the one that is booked.
    """
    account, _ = Account.objects.get_or_create(account_id=account_id)
    if base_currency and account.base_currency != base_currency:
        if account.base_currency:
            raise LedgerError(
                f"Account {account_id} is booked in {account.base_currency}, IB now says {base_currency}.",
                code="base_currency_changed",
                account=account_id,
            )
        account.base_currency = base_currency
        account.save(update_fields=["base_currency"])
        books_changed()
    return account


def open_account(
    account_id: str,
    cash_by_currency: Mapping[str, Decimal],
    positions: Sequence[BrokerPosition],
    executions_today: Sequence[FillSnapshot],
    now: datetime,
    *,
    owner_of: OwnerOf = lambda fill: DISCRETIONARY,
    commissions: Sequence[CommissionSnapshot] = (),
    marks: Mapping[int, Decimal] | None = None,
) -> FoldResult:
    """Book opening balances the first time the account is seen, then fold the day's executions, every time.

    The broker's answers must be complete and of one moment: cash and positions as they stand after all of
    ``executions_today``; ``marks`` are its prices by contract id, of the moment of its cash. On later calls only the
    executions are folded; cash and positions are not looked at. A commission that is not known yet comes later and is
    then taken out of the opening (``fold``).
    """
    with transaction.atomic():
        take_turn()
        account = Account.objects.select_for_update().get_or_create(account_id=account_id)[0]
        bookable = _bookable(executions_today, now)
        if account.opened_at is None:
            fees = _pending_fees(bookable) | _fees(commissions)
            known = _known_fills(bookable, positions)
            supported = [row for row in positions if row.contract.sec_type not in UNSUPPORTED]
            _book_opening(account_id, cash_by_currency, supported, known, fees, marks_in_money(marks or {}), now)
            account.opened_at = now
            account.save(update_fields=["opened_at"])
            logger.info("account opened account=%s positions=%d", account_id, len(positions))
        in_time = sorted(bookable, key=lambda fill: fill.executed_at)
        return fold_batch(account_id, [*in_time, *commissions], owner_of, now)


def allocate_strategy(
    account_id: str, strategy: str, amount: Decimal, currency: str, now: datetime
) -> list[CashFact] | None:
    """Move cash from Discretionary to a strategy, once; None when it was allocated before or there is none to give.

    Discretionary may go below zero in a currency that the account borrows or converts: the sum over owners is kept.
    """
    key = _allocation_key(account_id, strategy)
    amount = exact(amount)
    with transaction.atomic():
        take_turn()
        if amount <= 0 or Movement.objects.filter(key=key).exists():  # an account in debt gives nothing
            return None
        books = Books(account_id, now)
        books.load(set(), set(), set())
        books.book(Line(DISCRETIONARY, MovementKind.ALLOCATION, f"{key}:source", currency, cash=-amount))
        books.book(Line(strategy, MovementKind.ALLOCATION, key, currency, cash=amount))
        books.write()
        books_changed()
    logger.info("cash allocated strategy=%s amount=%s currency=%s", strategy, amount, currency)
    return [CashFact(owner, ccy, cash) for (owner, ccy), cash in books.touched_cash.items()]


def _allocation_key(account_id: str, strategy: str) -> str:
    return f"allocation:{account_id}:{strategy}:initial"


def without_allocation(account_id: str) -> list[str]:
    """Return the strategies with a weight that have got no cash yet; two queries, however many have theirs."""
    weighted = Strategy.objects.exclude(target_weight=0).order_by("symbol").values_list("symbol", flat=True)
    keys = {_allocation_key(account_id, symbol): symbol for symbol in weighted}
    given = set(Movement.objects.filter(key__in=keys).values_list("key", flat=True))
    return [symbol for key, symbol in keys.items() if key not in given]


def initial_allocation(account_id: str, symbol: str, now: datetime | None = None) -> tuple[Decimal, str]:
    """Return target weight × net liquidation in the strategy's own currency, and that currency.

    With ``now`` a rate or a net liquidation that is too old by then is refused.

    Raises: NotFoundError for an unknown strategy; LedgerError while net liquidation or a rate is unknown.
    """
    strategy = Strategy.objects.filter(symbol=symbol).first()
    if strategy is None:
        raise NotFoundError(f"There is no strategy {symbol}.", strategy=symbol)
    if now is None:
        rates = rates_of(account_id)
        net = net_liquidation(account_id, rates.base)
    else:
        rates = rates_within(account_id, now)
        net = net_liquidation_within(account_id, rates.base, now)
    amount = strategy.target_weight * net
    return rates.convert(exact(amount), rates.base, strategy.currency), strategy.currency


def net_liquidation(account_id: str, base_currency: str) -> Decimal:
    """Return IB's net liquidation in the base currency, of any age: fit for showing.

    Raises: LedgerError while IB has not reported it.
    """
    return _net_liquidation(account_id, base_currency)[0]


def net_liquidation_within(account_id: str, base_currency: str, now: datetime) -> Decimal:
    """Return IB's net liquidation when it was confirmed lately enough to decide an amount.

    Raises: LedgerError code equity_unknown while IB has not reported it, equity_old when that is over an hour ago.
    """
    value, at = _net_liquidation(account_id, base_currency)
    if now - at > NET_FRESH:
        raise LedgerError(
            f"IB's net liquidation of {account_id} was last confirmed at {at:%Y-%m-%d %H:%M} UTC: too old to decide an "
            "amount. Have the engine check the books.",
            code="equity_old",
            account=account_id,
        )
    return value


def _net_liquidation(account_id: str, base_currency: str) -> tuple[Decimal, datetime]:
    row = AccountValue.objects.filter(account_id=account_id, tag="NetLiquidation", currency=base_currency).first()
    value = None if row is None else to_decimal(row.value)
    if row is None or value is None:
        raise LedgerError(
            f"IB has not reported the net liquidation of {account_id} yet.", code="equity_unknown", account=account_id
        )
    return value, row.updated_at


def rates_of(account_id: str, now: datetime | None = None) -> Rates:
    """Return the best known exchange rates, of any age; those that are old at ``now`` (the present) carry a flag.

    Fit for showing values. What decides an amount takes ``rates_within`` instead.
    Raises: LedgerError while the base currency is unknown.
    """
    return present_rates(account_id, now or datetime.now(UTC))


def rates_within(account_id: str, now: datetime) -> Rates:
    """Return the exchange rates that are young enough to decide an amount.

    Raises: LedgerError while the base currency is unknown.
    """
    return present_rates(account_id, now).not_older(now, stale_limit())


def record_account_values(account_id: str, rows: Sequence[AccountRow | tuple[str, str, str]], at: datetime) -> None:
    """Keep IB's account figures by tag and currency; rows are ``(tag, value, currency)``, the last of a key wins."""
    plain = [row if isinstance(row, tuple) else (row.tag, row.value, row.currency) for row in rows]
    latest = {(tag, currency): (account_id, tag, currency, str(value), at) for tag, value, currency in plain}
    upsert_rows(
        AccountValue,
        ("account_id", "tag", "currency", "value", "updated_at"),
        ("account_id", "tag", "currency"),
        latest.values(),
    )
    record_account_rates(account_id, plain, at)


def _fees(commissions: Sequence[CommissionSnapshot]) -> Fees:
    return {report.exec_id: (report.amount, report.currency) for report in commissions}


def _bookable(executions: Sequence[FillSnapshot], now: datetime) -> list[FillSnapshot]:
    """Return the executions of what these books keep; others are parked, and open a break that names them."""
    found = []
    for fill in executions:
        if fill.contract.sec_type not in UNSUPPORTED:
            found.append(fill)
            continue
        try:
            check_fill(fill)
        except LedgerError as error:
            park(fill, error, now)
    return found


def _known_fills(executions: Sequence[FillSnapshot], positions: Sequence[BrokerPosition]) -> list[FillSnapshot]:
    """Return the day's executions with prices in their currencies; makes the instruments of all that is held."""
    contracts = {fill.contract.con_id: fill.contract for fill in executions if fill.contract.sec_type != COMBINATION}
    rows = ensure_instruments({**contracts, **{row.contract.con_id: row.contract for row in positions}}.values())
    return [fill_in_money(fill, rows[fill.contract.con_id]) for fill in executions if fill.contract.con_id in rows]


def _pending_fees(executions: Sequence[FillSnapshot]) -> Fees:
    """Return the fees that were reported before their executions: the broker's cash has paid them."""
    ids = [fill.exec_id for fill in executions]
    rows = select_rows(PendingCommission, ("exec_id", "amount", "currency"), "exec_id", ids)
    return {exec_id: (amount, currency) for exec_id, amount, currency in rows}


def _live_fills(executions: Sequence[FillSnapshot]) -> list[FillSnapshot]:
    """Keep the revision in force of each execution, in order of time."""
    live: dict[str, FillSnapshot] = {}
    for fill in executions:
        if fill.contract.sec_type == COMBINATION:
            continue
        family, revision = split_exec_id(fill.exec_id)
        known = live.get(family)
        if known is None or split_exec_id(known.exec_id)[1] < revision:
            live[family] = fill
    return sorted(live.values(), key=lambda fill: (fill.executed_at, fill.exec_id))


def _book_opening(
    account_id: str,
    cash_by_currency: Mapping[str, Decimal],
    positions: Sequence[BrokerPosition],
    executions: Sequence[FillSnapshot],
    fees: Fees,
    marks: Mapping[int, Decimal],
    now: datetime,
) -> None:
    fills = _live_fills(executions)
    contracts = {fill.contract.con_id: fill.contract for fill in fills}
    contracts.update({row.contract.con_id: row.contract for row in positions})
    ensure_instruments(contracts.values())
    books = Books(account_id, now)
    books.load(set(), set(), set(contracts))
    cash = _cash_before(cash_by_currency, fills, fees)
    present = {row.contract.con_id: row for row in positions}
    for con_id, contract in sorted(contracts.items()):
        row = present.get(con_id)
        day = [_day_fill(fill, fees) for fill in fills if fill.contract.con_id == con_id]
        held = opening_holding(
            row.quantity if row else ZERO, row.average_cost if row else ZERO, day, contract.multiplier
        )
        if row is not None:
            _set_against_cash(cash, row, marks.get(con_id))
        if held.quantity:
            _book_holding(books, contract, held)
    for currency, amount in sorted(cash.items()):
        if amount:
            key = f"opening:{account_id}:cash:{currency}"
            books.book(Line(DISCRETIONARY, MovementKind.OPENING, key, currency, cash=amount))
    books.write()
    books_changed()


def _fee_of(fill: FillSnapshot, fees: Fees) -> tuple[Decimal, str]:
    if fill.commission is not None:
        return fill.commission, fill.commission_currency or fill.contract.currency
    return fees.get(fill.exec_id, (ZERO, fill.contract.currency))


def _day_fill(fill: FillSnapshot, fees: Fees) -> DayFill:
    fee, currency = _fee_of(fill, fees)
    quantity = fill.quantity if fill.side == "BOT" else -fill.quantity
    return DayFill(quantity, fill.price, fee if currency == fill.contract.currency else ZERO)


def _cash_before(present: Mapping[str, Decimal], fills: Sequence[FillSnapshot], fees: Fees) -> dict[str, Decimal]:
    flows: dict[str, list[Decimal]] = {currency: [] for currency in present}
    for fill in fills:
        contract, day = fill.contract, _day_fill(fill, fees)
        fee, currency = _fee_of(fill, fees)
        flows.setdefault(contract.currency, []).append(fill_cash(day.quantity, day.price, contract.multiplier))
        flows.setdefault(currency, []).append(-fee)
    return {currency: opening_cash(present.get(currency, ZERO), moved) for currency, moved in flows.items()}


def _set_against_cash(cash: dict[str, Decimal], row: BrokerPosition, mark: Decimal | None) -> None:
    """Take from cash what a position of now stands for, where the broker's cash does not show the purchase.

    The day's executions were walked back at notional, so what is held now counts, not what was held before them. A
    future's notional never left the broker's cash, which holds the gain up to its mark: books that value the future at
    that mark have paid it at that mark. Without one its average must do. An FX pair's base currency is in the broker's
    cash and would count twice beside the position: all of it, also what was bought today.
    """
    contract = row.contract
    if contract.sec_type == "FUT":
        price = row.average_cost / contract.multiplier if mark is None else mark
        notional = fill_cash(row.quantity, price, contract.multiplier)
        cash[contract.currency] = cash.get(contract.currency, ZERO) + notional
    elif contract.sec_type == "CASH":
        cash[contract.symbol] = cash.get(contract.symbol, ZERO) - row.quantity


def _book_holding(books: Books, contract: ContractSnapshot, held: Holding) -> None:
    state = PositionState(held.quantity, -fill_cash(held.quantity, held.average_cost, contract.multiplier))
    books.set_position(DISCRETIONARY, contract.con_id, state)
    books.book(
        Line(
            owner=DISCRETIONARY,
            kind=MovementKind.OPENING,
            key=f"opening:{books.account_id}:{contract.con_id}",
            currency=contract.currency,
            con_id=contract.con_id,
            quantity=held.quantity,
            price=held.average_cost,
        )
    )
