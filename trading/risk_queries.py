"""Read what the Risk page and the API show: states, limits with what is used of them, exposure, denials.

Leaves: writing (``risk_services``, ``risk_control``), the checks themselves (``orders.risk``).
Shape: rows are JSON-ready dicts in the words of the API; what is not known is None, never zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.db.models import Count
from django.utils import timezone

from portfolio import queries as books
from portfolio.accounts import rates_of
from portfolio.models import Account, AccountValue, Instrument
from strategies.exceptions import LedgerError
from strategies.models import DISCRETIONARY, Strategy
from trading.engine.events import iso, plain
from trading.engine.standing import read_decisions
from trading.ib.mapping import to_optional_decimal
from trading.models import Order
from trading.orders.checking import written
from trading.orders.limits import ACCOUNT as ACCOUNT_SCOPE
from trading.orders.limits import FRACTION, SPECS, STRATEGY, LimitBook
from trading.orders.state import WORKING, OrderState
from trading.orders.trading_state import TradingState
from trading.queries import Row, day_start_equity
from trading.risk_control import halt_file
from trading.risk_models import DeadManRun, MarginReading, RiskLimit, RiskLock, RiskOverride, TradingControl

ZERO = Decimal(0)
DENIALS = 30
MARGIN_STANDS = timedelta(hours=1)


def trading_states() -> Row:
    """Return the account's and every strategy's trading state; the halt file counts for the account."""
    rows = {row.owner: row for row in TradingControl.objects.all()}
    note = halt_file().note()
    account = _state_row("", rows.get(""))
    if note is not None and account["state"] != TradingState.HALTED:
        account |= {"state": str(TradingState.HALTED), "reason": note.text, "set_by": note.by, "since": note.at or None}
    symbols = Strategy.objects.order_by("symbol").values_list("symbol", flat=True)
    strategies = [_state_row(symbol, rows.get(symbol)) for symbol in [*symbols, DISCRETIONARY]]
    held = [row for row in strategies if row["state"] != TradingState.ACTIVE]
    return {
        "account": account,
        "halt_file": note is not None,
        "strategies": strategies,
        "held": held,
        "any": bool(held) or account["state"] != TradingState.ACTIVE,
    }


def _state_row(owner: str, row: TradingControl | None) -> Row:
    if row is None:
        return {"owner": owner, "state": str(TradingState.ACTIVE), "reason": "", "set_by": "", "since": None}
    return {
        "owner": owner,
        "state": str(row.state),
        "reason": row.reason if row.state != TradingState.ACTIVE else "",
        "set_by": row.set_by,
        "since": iso(row.since),
    }


# exposure


def exposures() -> Row:
    """Return gross and net exposure of the account and of every owner in base currency, as fractions of equity too.

    Positions of all owners net per contract for the account; a value that is not known makes its sums unknown.
    """
    account = Account.objects.filter(pk=books.account_id_or_none()).first()
    if account is None:
        return {"currency": "", "equity": None, "account": _sums({}, set(), None), "owners": [], "largest": None}
    equity = net_liquidation(account)
    net: dict[str, dict[int, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    unknown: dict[str, set[str]] = defaultdict(set)
    rates = rates_of(account.account_id)
    for row in books.positions():
        try:
            if row.market_value is None:
                raise LedgerError("no price")
            value = rates.convert(row.market_value, row.currency, account.base_currency)
        except LedgerError:
            unknown[row.owner].add(row.symbol)
            unknown[""].add(row.symbol)
            continue
        net[row.owner][row.con_id] += value
        net[""][row.con_id] += value
    owners = sorted({owner for owner in (*net, *unknown) if owner})
    largest = max((abs(value) for value in net[""].values()), default=ZERO)
    return {
        "currency": account.base_currency,
        "equity": plain(equity),
        "account": _sums(net[""], unknown[""], equity),
        "owners": [{"owner": owner, **_sums(net[owner], unknown[owner], equity)} for owner in owners],
        "largest": None if unknown[""] else _share(largest, equity),
    }


def _sums(values: Mapping[int, Decimal], unknown: set[str], equity: Decimal | None) -> Row:
    gross = None if unknown else sum((abs(value) for value in values.values()), ZERO)
    net = None if unknown else sum(values.values(), ZERO)
    return {
        "gross": plain(gross),
        "net": plain(net),
        "gross_fraction": _share(gross, equity),
        "net_fraction": _share(net, equity),
        "unknown": sorted(unknown),
    }


def _share(value: Decimal | None, equity: Decimal | None) -> str | None:
    return None if value is None or not equity or equity <= 0 else plain((value / equity).quantize(Decimal("0.0001")))


def net_liquidation(account: Account) -> Decimal | None:
    """Return IB's net liquidation in base currency; None while it is not known."""
    return _figure(account, "NetLiquidation")


def _figure(account: Account, tag: str) -> Decimal | None:
    found = AccountValue.objects.filter(account=account, tag=tag, currency=account.base_currency).first()
    return None if found is None else to_optional_decimal(float(found.value))


# limits


def usage(exposure: Row) -> dict[str, str | None]:
    """Return what is used of the account's limits, by name and in the limit's unit, where it has one."""
    account = Account.objects.filter(pk=books.account_id_or_none()).first()
    midnight = timezone.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    sent = Order.objects.filter(created_at__gte=midnight).exclude(state=OrderState.DENIED)
    by_owner = sent.exclude(owner=DISCRETIONARY).values("owner").annotate(count=Count("id")).order_by("-count").first()
    working = Order.objects.filter(state__in=[str(state) for state in WORKING])
    by_side = working.values("con_id", "side").annotate(count=Count("id")).order_by("-count").first()
    net = exposure["account"]["net_fraction"]
    found: dict[str, str | None] = {
        "gross_exposure": exposure["account"]["gross_fraction"],
        "net_exposure": None if net is None else plain(abs(Decimal(net))),
        "position_fraction": exposure["largest"],
        "orders_per_day": str(by_owner["count"] if by_owner else 0),
        "active_orders": str(by_side["count"] if by_side else 0),
        "daily_loss_account": None,
        "margin_cushion": None,
    }
    if account is None:
        return found
    equity, excess = net_liquidation(account), _figure(account, "ExcessLiquidity")
    start = day_start_equity([""]).get("")
    if equity is not None and start:
        found["daily_loss_account"] = _share(max(ZERO, start - equity), start)
    found["margin_cushion"] = _share(excess, equity)
    return found


def limit_rows() -> list[Row]:
    """Return every limit that was set by hand."""
    symbols = dict(Instrument.objects.values_list("con_id", "symbol"))
    return [
        {
            "id": row.pk,
            "name": row.name,
            "value": written(row.value),
            "scope": row.scope,
            "strategy": row.strategy,
            "con_id": row.con_id,
            "symbol": symbols.get(row.con_id, ""),
            "reason": row.reason,
            "set_by": row.set_by,
            "since": iso(row.since),
        }
        for row in RiskLimit.objects.all()
    ]


def account_limits(exposure: Row) -> list[Row]:
    """Return each limit of the account with its value, source and what is used of it."""
    book: LimitBook = read_decisions().limits
    used = usage(exposure)
    rows = []
    for spec in SPECS.values():
        held = book.find(spec.name, "", 0)
        if not {ACCOUNT_SCOPE, STRATEGY} & spec.scopes or held is None:
            continue
        rows.append(
            {
                "name": spec.name,
                "summary": spec.summary,
                "unit": spec.unit,
                "value": written(held.value),
                "source": held.source,
                "default": spec.default,
                "used": used.get(spec.name),
                "has_usage": spec.name in used,
                "is_fraction": spec.unit == FRACTION,
                "tone": _tone(used.get(spec.name), held.value, lower_is_tighter=spec.lower_is_tighter),
            }
        )
    return rows


def _tone(used: str | None, limit: Decimal, *, lower_is_tighter: bool) -> str:
    if used is None:
        return ""
    value = Decimal(used)
    if not lower_is_tighter:
        return "bad" if value < limit else "warn" if value < limit * 2 else "good"
    return "bad" if value >= limit else "warn" if value >= limit * Decimal("0.8") else "good"


# margin


def margin_shares(now: datetime | None = None) -> Row:
    """Return whose margin the account's is, as IB's answers were last read; each None while it is not known.

    The parts of a reading add up to its ``initial`` and ``maintenance``. One that is older than an hour tells nothing
    any more.
    """
    row = MarginReading.objects.filter(pk=books.account_id_or_none() or "").first()
    moment = now or timezone.now()
    if row is None:
        problem = "It was not read yet: the engine asks IB once its books agree."
        return {**_NO_READING, "problem": problem}
    is_old = moment - row.at > MARGIN_STANDS
    owners = [{**one, "initial": None, "maintenance": None} for one in row.owners] if is_old else row.owners
    old = f"It was last read at {row.at:%Y-%m-%d %H:%M} UTC, too long ago." if is_old else ""
    return {
        "currency": row.currency,
        "at": iso(row.at),
        "initial": None if is_old else plain(row.initial),
        "maintenance": None if is_old else plain(row.maintenance),
        "owners": sorted(owners, key=_by_margin),
        "contracts": [] if is_old else row.contracts,
        "problem": " ".join(text for text in (old, row.problem) if text),
    }


def _by_margin(one: Row) -> tuple[Decimal, str]:
    return -Decimal(one["initial"] or 0), one["owner"]


_NO_READING: Row = {"currency": "", "at": None, "initial": None, "maintenance": None, "owners": [], "contracts": []}


def margin_of(owner: str, shares: Row) -> Row | None:
    """Return one owner's part of a reading."""
    return next((one for one in shares["owners"] if one["owner"] == owner), None)


# overrides, locks, denials, drills


def override_rows() -> list[Row]:
    """Return every override that holds."""
    symbols = dict(Instrument.objects.values_list("con_id", "symbol"))
    return [
        {
            "id": row.pk,
            "action": row.action,
            "multiplier": written(row.multiplier),
            "strategy": row.strategy,
            "con_id": row.con_id,
            "symbol": symbols.get(row.con_id, ""),
            "reason": row.reason,
            "set_by": row.set_by,
            "since": iso(row.since),
        }
        for row in RiskOverride.objects.all()
    ]


def lock_rows(now: datetime | None = None) -> list[Row]:
    """Return every lock that holds now."""
    moment = now or timezone.now()
    symbols = dict(Instrument.objects.values_list("con_id", "symbol"))
    return [
        {
            "id": row.pk,
            "strategy": row.strategy,
            "con_id": row.con_id,
            "symbol": symbols.get(row.con_id, ""),
            "until": iso(row.until),
            "reason": row.reason,
            "set_by": row.set_by,
            "since": iso(row.since),
        }
        for row in RiskLock.objects.filter(released_at=None)
        if row.until is None or row.until > moment
    ]


def denials(limit: int = DENIALS) -> list[Row]:
    """Return the latest orders that MATS did not send, newest first, with the check that refused."""
    rows = Order.objects.filter(state=OrderState.DENIED).order_by("-id")[:limit]
    return [
        {
            "order_ref": row.order_ref,
            "owner": row.owner,
            "symbol": row.symbol,
            "side": row.side,
            "quantity": plain(row.quantity),
            "check": row.reason.partition(":")[0],
            "reason": row.reason.partition(":")[2].strip(),
            "at": iso(row.created_at),
        }
        for row in rows
    ]


def dead_man_rows(limit: int = 10) -> list[Row]:
    """Return the latest times that the dead-man switch acted or practised."""
    return [
        {
            "id": row.pk,
            "at": iso(row.at),
            "drill": row.drill,
            "action": row.action,
            "silent_s": row.silent_s,
            "done_s": row.done_s,
            "left_orders": row.left_orders,
            "left_positions": row.left_positions,
            "text": row.text,
        }
        for row in DeadManRun.objects.all()[:limit]
    ]
