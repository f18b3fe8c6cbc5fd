"""The accounting invariants that can be checked at rest, each by itself.

Owns: I1 to I5, I7, I13, I15, I16 over the ledger's tables. Leaves: what is folded again (``journal``, I17), ArcticDB
(``stores``, I8), orders and the lease (registered by the app that has them: I6, I9, I11).
Rule: money is added up here, exactly, never by the database; everything is read in order of an index, so that a
million movements take no more memory than a thousand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Max, Min, Q

from portfolio.fx_rates import to_decimal
from portfolio.ledger.money import ZERO, plain
from portfolio.ledger.reconciliation import CENT, compare, compare_money
from portfolio.models import (
    Account,
    AccountValue,
    Adjustment,
    AdjustmentKind,
    AdjustmentState,
    Break,
    BreakState,
    BrokerHolding,
    Execution,
    HourlySnapshot,
    Movement,
    MovementKind,
)
from portfolio.reconcile import ledger_cash, ledger_quantities
from portfolio.verification.checks import Check, Progress
from portfolio.verification.streams import shares_of_executions
from strategies.audit import verify_chain
from strategies.models import DISCRETIONARY, Strategy

_CHUNK = 5_000
_PROGRESS = 50_000
_CALM = timedelta(minutes=5)
_FLOWS = (
    MovementKind.OPENING,
    MovementKind.ALLOCATION,
    MovementKind.TRANSFER,
    MovementKind.DEPOSIT,
    MovementKind.WITHDRAWAL,
)
_BETWEEN_OWNERS = ("transfer_cash", "transfer_position", "rebalance", "reassignment")
_PURE_FLOWS = ("deposit", "withdrawal", "transfer_cash", "rebalance", "receipt", "delivery")
NOT_AT_REST = {
    "I10": "A failed or partial query changes nothing",
    "I12": "No new order while down, unreconciled, or broken",
    "I14": "One strategy's fault changes no other",
}


def one_live_revision(progress: Progress | None) -> Check:
    """I1: of the revisions of an execution the highest is in force, and only it."""
    check = Check("I1", "Each execution has one live revision")
    check.checked = Execution.objects.values("family").distinct().count()
    live = Q(superseded=False)
    families = Execution.objects.values("account_id", "family").annotate(
        live=Count("id", filter=live), last=Max("revision"), first_live=Min("revision", filter=live)
    )
    for row in families.exclude(live=1, last=1).iterator(chunk_size=_CHUNK):
        if row["live"] != 1 or row["first_live"] != row["last"]:
            check.fail(f"execution {row['family']}: {row['live']} live revisions, the highest is {row['last']}")
    return check


def owners_hold_what_ib_holds(progress: Progress | None) -> Check:
    """I2: Σ strategies + Discretionary = IB's position, as IB last reported it; open breaks are named."""
    check = Check("I2", "Σ strategies + Discretionary = IB's positions")
    for account in Account.objects.exclude(positions_at=None):
        assert account.positions_at is not None  # noqa: S101 - selected so
        theirs = dict(BrokerHolding.objects.filter(account=account).values_list("instrument_id", "quantity"))
        ours = ledger_quantities(account.account_id)
        check.checked += len({*theirs, *ours})
        later = _moved_since(account.account_id, account.positions_at)
        for one in compare(theirs, ours):
            if one.con_id in later:
                check.note = f"contracts that moved after IB's last answer ({account.positions_at:%F %T}) are left out"
                continue
            is_open = Break.objects.filter(account=account, instrument=one.con_id, state=BreakState.OPEN).exists()
            check.fail(
                f"contract {one.con_id}: IB {plain(one.broker_quantity)}, ledger {plain(one.ledger_quantity)}"
                + (" (an open break names it)" if is_open else " (and no open break names it)")
            )
    if not check.checked and not check.note:
        check.note = "IB has not reported positions yet"
    return check


def cash_is_what_ib_holds(progress: Progress | None) -> Check:
    """I3: Σ owners' cash = IB's cash, by the reconciliation's last word: its open breaks of cash."""
    check = Check("I3", "Σ owners' cash = IB's cash (futures and FX pairs as their decision says)")
    reconciled = Account.objects.exclude(reconciled_at=None).count()
    if not reconciled:
        check.note = "no complete check against IB has ended yet"
        return check
    check.checked = reconciled
    for account in Account.objects.exclude(reconciled_at=None):
        _hold_against_figures(check, account)
    for row in Break.objects.filter(kind="cash", state=BreakState.OPEN):
        pending = row.cause.get("pending_commissions")
        check.fail(
            f"{row.account_id} {row.currency}: IB {plain(row.ib_quantity)}, expected {plain(row.ledger_quantity)}"
            + (f", commissions not reported yet: {pending}" if pending else "")
        )
    return check


def _hold_against_figures(check: Check, account: Account) -> None:
    """Compare cash with IB's figures as they were stored last, where both are of one moment.

    IB repeats its figures every three minutes, so nothing may have moved for a while before them. Futures are left to
    the reconciliation, which has IB's marks of that moment.
    """
    at, theirs = _stored_cash(account)
    if at is None:
        return
    mine = Movement.objects.filter(account=account)
    unknown = Execution.objects.filter(account=account, superseded=False, commission=None)
    if mine.filter(booked_at__gt=at - _CALM).exists() or unknown.exists():
        check.note = (
            f"cash moved, or commissions were unknown, at IB's last figures ({at:%F %T}): only breaks are named"
        )
        return
    told = set(
        Break.objects.filter(account=account, kind="cash", state=BreakState.OPEN).values_list("currency", flat=True)
    )
    for one in compare_money(theirs, ledger_cash(account.account_id)):
        if one.tolerance == CENT and one.currency not in told:
            check.fail(
                f"{account.account_id} {one.currency}: IB {plain(one.broker_amount)} at {at:%F %T}, expected "
                f"{plain(one.expected_amount)} (and no open break names it)"
            )


def _stored_cash(account: Account) -> tuple[datetime | None, dict[str, Decimal]]:
    """Return IB's cash by currency as it was stored last, and when; rows of older answers are none of it."""
    for tag in ("CashBalance", "TotalCashBalance"):
        rows = AccountValue.objects.filter(account=account, tag=tag).exclude(currency__in=["", "BASE"])
        at = rows.aggregate(at=Max("updated_at"))["at"]
        found = {row.currency: to_decimal(row.value) for row in rows.filter(updated_at=at)} if at else {}
        if found and None not in found.values():
            return at, {currency: amount for currency, amount in found.items() if amount is not None}
    return None, {}


def snapshots_add_up(progress: Progress | None) -> Check:
    """I4: equity = cash + Σ quantity × price × multiplier, in each hourly snapshot of one currency that knows all."""
    check = Check("I4", "Equity = cash + market value, in each hourly snapshot of one currency")
    rows = HourlySnapshot.objects.exclude(owner="").order_by("id")
    for row in rows.iterator(chunk_size=500):
        value = _value(row)
        if row.equity is None or value is None:
            continue
        check.checked += 1
        if row.equity != value:
            check.fail(f"{row}: equity {plain(row.equity)}, its parts are worth {plain(value)}")
    return check


def _value(row: HourlySnapshot) -> Decimal | None:
    """Return what a snapshot's lines are worth; None when a price is missing or another currency is in it."""
    total = ZERO
    for line in row.positions:
        quantity = Decimal(line["quantity"] or 0)
        if not quantity:
            continue
        if line["currency"] != row.currency:
            return None
        if line["row_type"] == "CASH":
            total += quantity
        elif line.get("mark") is None:
            return None
        else:
            total += quantity * Decimal(line["mark"]) * Decimal(line.get("multiplier") or 1)
    return total


def entries_balance(progress: Progress | None) -> Check:
    """I5: of each owner's entries in an instrument, cash + cost basis = realised; pure cash is a flow or realised."""
    check = Check("I5", "Every entry balances: cash + cost basis = realised, but for what came from outside")
    drift: dict[tuple[str, str, int | None, str], Decimal] = defaultdict(lambda: ZERO)
    basis: dict[tuple[str, str, int], Decimal] = {}
    for row in _movements(progress, check):
        account, owner, con_id, currency = row["account_id"], row["owner"], row["instrument_id"], row["currency"]
        change = ZERO
        if con_id is not None:
            before = basis.get((account, owner, con_id), ZERO)
            basis[account, owner, con_id] = row["basis_after"]
            change = row["basis_after"] - before
        if row["kind"] == MovementKind.OPENING or (con_id is None and _is_flow(row)):
            continue
        drift[account, owner, con_id, currency] += row["cash"] + change - row["realized_pnl"]
    for (_, owner, con_id, currency), amount in sorted(drift.items(), key=str):
        if amount:
            where = f"contract {con_id}" if con_id is not None else "pure cash"
            check.fail(f"{owner}, {where}, {currency}: cash + basis − realised = {plain(amount)}")
    return check


def _movements(progress: Progress | None, check: Check) -> Iterator[dict[str, Any]]:
    columns = ("account_id", "owner", "kind", "instrument_id", "currency", "cash", "basis_after", "realized_pnl")
    rows = Movement.objects.order_by("id").values(*columns, "adjustment__kind")
    for row in rows.iterator(chunk_size=_CHUNK):
        check.checked += 1
        if progress is not None and check.checked % _PROGRESS == 0:
            progress("entries", check.checked)
        yield dict(row)


def _is_flow(row: dict[str, Any]) -> bool:
    return row["kind"] in _FLOWS or (row["kind"] == MovementKind.REVERSAL and row["adjustment__kind"] in _PURE_FLOWS)


def adjustments_balance(progress: Progress | None) -> Check:
    """I5: what moves between owners adds up to nothing, and what was undone leaves nothing."""
    check = Check("I5a", "What moves between owners adds up to nothing; what was undone leaves nothing")
    booked = Adjustment.objects.filter(state__in=[AdjustmentState.BOOKED, AdjustmentState.UNDONE]).order_by("id")
    for row in booked.only("id", "key", "kind", "state").iterator(chunk_size=500):
        check.checked += 1
        if row.kind in _BETWEEN_OWNERS:
            _expect_nothing(check, f"{row.kind} {row.key}", _sums([row.pk], by_owner=False))
        if row.state == AdjustmentState.UNDONE:
            undo = Adjustment.objects.filter(undoes=row.pk).values_list("id", flat=True).first()
            if undo is None:
                check.fail(f"{row.kind} {row.key} is undone and nothing undoes it")
            else:
                fees = row.kind != AdjustmentKind.REASSIGNMENT  # one that came after the division is divided anew
                sums = _sums([row.pk, undo], by_owner=True, fees=fees)
                _expect_nothing(check, f"{row.kind} {row.key} and its undo", sums)
    return check


def _sums(adjustments: list[int], *, by_owner: bool, fees: bool = True) -> dict[tuple[Any, ...], Decimal]:
    found: dict[tuple[Any, ...], Decimal] = defaultdict(lambda: ZERO)
    rows = Movement.objects.filter(adjustment__in=adjustments).order_by("id")
    if not fees:
        rows = rows.exclude(quantity=ZERO, price=None)
    for row in rows.values_list("owner", "instrument_id", "quantity", "currency", "cash"):
        owner = row[0] if by_owner else "all owners"
        found[owner, "contract", row[1]] += row[2]
        found[owner, "cash", row[3]] += row[4]
    return found


def _expect_nothing(check: Check, what: str, sums: dict[tuple[Any, ...], Decimal]) -> None:
    for (owner, kind, name), amount in sums.items():
        if amount:
            check.fail(f"{what}: {owner} {kind} {name} is left with {plain(amount)}")


def fills_are_owned(progress: Progress | None) -> Check:
    """I7: the shares of an execution add up to it, none goes the other way, and every owner exists."""
    check = Check("I7", "The shares of every execution add up to it and have known owners")
    owners = {*Strategy.objects.values_list("symbol", flat=True), DISCRETIONARY}
    strangers = {*Movement.objects.values_list("owner", flat=True).distinct()} - owners
    for owner in sorted(strangers):
        check.fail(f"movements belong to {owner}, which is no strategy any more")
    for execution, shares in shares_of_executions():
        check.checked += 1
        exec_id, quantity, superseded = execution
        wanted = ZERO if superseded else quantity
        if sum(shares.values(), ZERO) != wanted:
            check.fail(f"execution {exec_id}: shares {plain(sum(shares.values(), ZERO))}, wanted {plain(wanted)}")
        for owner, share in shares.items():
            if share and (superseded or (share > 0) is not (quantity > 0)):
                check.fail(f"execution {exec_id} of {plain(quantity)}: {owner} has {plain(share)} of it")
        if progress is not None and check.checked % _PROGRESS == 0:
            progress("executions", check.checked)
    return check


def audit_is_whole(progress: Progress | None) -> Check:
    """I15: the audit trail's chain is whole."""
    check = Check("I15", "The audit trail is whole")
    check.checked = 1
    for problem in verify_chain():
        check.fail(problem)
    return check


def profit_explains_equity(progress: Progress | None) -> Check:
    """I16: between two hours, equity changes by flows and profit, of owners that keep one currency."""
    check = Check("I16", "Realised + unrealised = change of equity − flows, hour by hour, of owners in one currency")
    last: dict[tuple[str, str], HourlySnapshot] = {}
    rows = HourlySnapshot.objects.exclude(owner="").order_by("hour", "id")
    for row in rows.iterator(chunk_size=500):
        if row.equity is None or row.realized_pnl is None or row.unrealized_pnl is None or not _one_currency(row):
            continue
        before = last.get((row.account_id, row.owner))
        last[row.account_id, row.owner] = row
        flows = None if before is None else _flows(before, row)
        if before is None or flows is None:
            continue
        check.checked += 1
        gain = _profit(row) - _profit(before)
        change = (row.equity or ZERO) - (before.equity or ZERO) - flows
        if gain != change:
            check.fail(f"{row}: profit {plain(gain)}, equity changed by {plain(change)} besides flows")
    return check


def _one_currency(row: HourlySnapshot) -> bool:
    return all(line["currency"] == row.currency for line in row.positions)


def _profit(row: HourlySnapshot) -> Decimal:
    return (row.realized_pnl or ZERO) + (row.unrealized_pnl or ZERO)


def _flows(before: HourlySnapshot, after: HourlySnapshot) -> Decimal | None:
    """Return what came to the owner between two snapshots without being earned; None in another currency."""
    span = Movement.objects.filter(
        account=after.account_id, owner=after.owner, id__gt=before.last_movement, id__lte=after.last_movement
    )
    total = ZERO
    columns = ("kind", "instrument_id", "currency", "cash", "basis_after", "adjustment__kind")
    for found in span.values(*columns).iterator():
        row: dict[str, Any] = dict(found)
        if row["kind"] == MovementKind.OPENING or (row["instrument_id"] is None and _is_flow(row)):
            if row["currency"] != after.currency:
                return None
            total += row["cash"] + (row["basis_after"] or ZERO)
    return total


def _moved_since(account_id: str, moment: datetime) -> set[int]:
    found = Movement.objects.filter(account=account_id, booked_at__gt=moment).values_list("instrument_id", flat=True)
    return {con_id for con_id in found.distinct() if con_id is not None}


def limits_hold(progress: Progress | None) -> Check:
    """I13: limits hold at the moment an order is sent; what stands in the books later may lie beyond new ones."""
    note = "not checkable at rest: limits are asked before each order"
    return Check("I13", "Positions + working orders ≤ limits", note=note)


CHECKS = (
    one_live_revision,
    owners_hold_what_ib_holds,
    cash_is_what_ib_holds,
    snapshots_add_up,
    entries_balance,
    adjustments_balance,
    fills_are_owned,
    limits_hold,
    audit_is_whole,
    profit_explains_equity,
)
QUICK = (one_live_revision, owners_hold_what_ib_holds, cash_is_what_ib_holds, adjustments_balance, limits_hold)
