"""What each kind of adjustment does to the books.

Owns: turning an event into movements. Leaves: reading its details to ``ledger.events``, contracts and options to
``contract_effects``, state, keys and audit to ``adjustments``. Rule: nothing is written here but into the books that
were handed in, so that the same code previews and books.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from portfolio.books import Books, Line
from portfolio.ledger.cash import fill_cash
from portfolio.ledger.events import (
    DISCRETIONARY,
    CashFlow,
    CashTransfer,
    Delivery,
    Event,
    Exercise,
    Fee,
    Income,
    PositionTransfer,
    Reassignment,
    Receipt,
    refused,
)
from portfolio.ledger.journal import cost_of_part, in_place, refold, unit_price
from portfolio.ledger.money import ZERO, exact, plain
from portfolio.ledger.shares import CENT, divide
from portfolio.ledger.validity import price_fault
from portfolio.models import Adjustment, AdjustmentKind, Instrument, Movement, MovementKind
from portfolio.refolding import NOW, Journal, Refolder, adjustment_ref, execution_ref, moment_of
from portfolio.shares import Holding, by_quantity, holdings_of
from strategies.exceptions import ConflictError, NotFoundError
from strategies.models import Strategy


@dataclass(frozen=True, slots=True)
class Act:
    """One adjustment on its way into the books."""

    row: Adjustment  # without id while it is only previewed
    event: Event
    books: Books
    refolder: Refolder

    @property
    def ref(self) -> str:
        """Its name in the journals."""
        return adjustment_ref(self.row.key)

    def line(self, owner: str, kind: MovementKind, currency: str, **values: Any) -> Line:
        """Return a movement of this adjustment."""
        return Line(owner, kind, self.refolder.key(), currency, adjustment_id=self.row.pk, **values)

    def instrument(self, con_id: int, name: str = "con_id") -> Instrument:
        """Return a known contract with every owner's position loaded.

        Raises: NotFoundError when the books have never seen it.
        """
        self.books.load_positions({con_id})
        found = self.books.instruments.get(con_id)
        if found is None:
            raise NotFoundError(f"The books know no contract {con_id}.", code="unknown_contract", field=name)
        return found


def check_owners(event: Event) -> None:
    """Refuse owners that are neither a strategy nor Discretionary.

    Raises: ConfigError code bad_adjustment.
    """
    named = {name: owner for name, owner in _owners(event).items() if owner and owner != DISCRETIONARY}
    known = set(Strategy.objects.filter(symbol__in=set(named.values())).values_list("symbol", flat=True))
    wrong = {name: f"there is no strategy {owner}" for name, owner in named.items() if owner not in known}
    if wrong:
        raise refused(wrong)


def _owners(event: Event) -> dict[str, str]:
    if isinstance(event, CashFlow | Fee | Receipt | Delivery):
        return {"owner": event.owner}
    if isinstance(event, CashTransfer | PositionTransfer | Reassignment):
        return {"from": event.giver, "to": event.receiver}
    if isinstance(event, Income | Exercise):
        return {f"owners.{owner}": owner for owner, _ in event.owners}
    return {}


def flow(act: Act, event: CashFlow) -> None:
    """Deposit, withdrawal or interest."""
    kind = MovementKind(act.row.kind)
    amount = -event.amount if kind == MovementKind.WITHDRAWAL else event.amount
    gain = amount if kind == MovementKind.INTEREST else ZERO
    act.refolder.book_cash(act.line(event.owner, kind, event.currency, cash=amount, realized_pnl=gain))


def transfer_cash(act: Act, event: CashTransfer) -> None:
    """Cash from one owner to another."""
    for owner, amount in ((event.giver, -event.amount), (event.receiver, event.amount)):
        act.refolder.book_cash(act.line(owner, MovementKind.TRANSFER, event.currency, cash=amount))


def money(act: Act, owner: str, kind: MovementKind, con_id: int, currency: str, cash: Decimal) -> None:
    """Income of an instrument, or a fee on it: realised by its position where the currency is its own."""
    is_fee = kind == MovementKind.FEE
    line = act.line(owner, kind, currency, con_id=con_id, cash=cash, fee=is_fee, income=not is_fee)
    act.refolder.journal(owner, con_id).add(act.ref, line, NOW)
    act.refolder.settle(owner, con_id, [line])


def fee(act: Act, event: Fee) -> None:
    """A fee of an owner, of an instrument, or the correction of an execution's commission."""
    if event.exec_id:
        _execution_fee(act, event)
    elif event.con_id:
        act.instrument(event.con_id)
        money(act, event.owner, MovementKind.FEE, event.con_id, event.currency, -event.amount)
    else:
        paid = -event.amount
        line = act.line(event.owner, MovementKind.FEE, event.currency, cash=paid, realized_pnl=paid)
        act.refolder.book_cash(line)


def _execution_fee(act: Act, event: Fee) -> None:
    con_id, shares, slot = live_shares(act, event.exec_id)
    if event.con_id not in (None, con_id):
        raise refused({"con_id": f"the execution is of contract {con_id}"})
    for owner, amount in divide(event.amount, by_quantity(shares)).items():
        line = act.line(
            owner,
            MovementKind.FEE,
            event.currency,
            exec_id=event.exec_id,
            con_id=con_id,
            cash=-amount,
            slot=slot,
            fee=True,
        )
        act.refolder.journal(owner, con_id).add(execution_ref(event.exec_id), line, slot)
        act.refolder.settle(owner, con_id, [line])


def live_shares(act: Act, exec_id: str) -> tuple[int, dict[str, Holding], int]:
    """Return contract, shares and slot of an execution in force.

    Raises: NotFoundError; ConflictError when a correction replaced it.
    """
    row = act.row.execution
    if row is None or row.exec_id != exec_id:
        raise NotFoundError(f"There is no execution {exec_id}.", exec_id=exec_id)
    if row.superseded:
        raise ConflictError(f"Execution {exec_id} was corrected; take the correction.", code="superseded")
    act.instrument(row.instrument_id)
    shares, slot = holdings_of(exec_id)
    return row.instrument_id, shares, NOW if slot is None else slot


def transfer_position(act: Act, event: PositionTransfer) -> None:
    """A sale between two owners: cash goes the other way, so that neither's equity moves at that price.

    Raises: ConflictError when the giver holds less.
    """
    instrument = act.instrument(event.con_id)
    held = act.books.position(event.giver, event.con_id)
    if abs(held.quantity) < event.quantity:
        raise ConflictError(
            f"{event.giver} holds {plain(held.quantity)} {instrument}, not {plain(event.quantity)}.", code="not_held"
        )
    if event.price is not None and (fault := price_fault(instrument.sec_type, event.price)):
        raise refused({"price": fault})
    moved = event.quantity if held.quantity > 0 else -event.quantity
    if event.price is None:
        cash = cost_of_part(held, -moved)
        price = unit_price(-moved, cash, instrument.multiplier)
    else:
        price = event.price
        cash = fill_cash(-moved, price, instrument.multiplier)
    for owner, quantity, paid in ((event.giver, -moved, cash), (event.receiver, moved, -cash)):
        line = act.line(
            owner,
            MovementKind.TRANSFER,
            instrument.currency,
            con_id=event.con_id,
            quantity=quantity,
            price=price,
            cash=paid,
        )
        act.refolder.journal(owner, event.con_id).add(act.ref, line, NOW)
        act.refolder.settle(owner, event.con_id, [line])


def income(act: Act, event: Income) -> None:
    """A dividend or tax, to the named owners or by what each held; what nobody held is Discretionary's."""
    act.instrument(event.con_id)
    parts = dict(event.owners)
    if not parts:
        weights = holdings_at(act.row.account_id, event.con_id, act.row.effective_at)
        whole = sum(weights.values(), ZERO)
        unit = CENT if event.amount == event.amount.quantize(CENT) else exact(ZERO) + Decimal("1E-10")
        parts = divide(event.amount, weights, unit) if whole else {DISCRETIONARY: event.amount}
    for owner, amount in sorted(parts.items()):
        if amount:
            money(act, owner, MovementKind(act.row.kind), event.con_id, event.currency, amount)


def holdings_at(account_id: str, con_id: int, at: datetime) -> dict[str, Decimal]:
    """Return the signed quantity of each owner at a moment, by when things happened, not by when they were booked."""
    rows = Movement.objects.filter(account_id=account_id, instrument_id=con_id)
    held: dict[str, Decimal] = {}
    for owner, quantity, *times in rows.values_list(
        "owner", "quantity", "execution__executed_at", "adjustment__effective_at", "booked_at"
    ):
        if next(moment for moment in times if moment is not None) <= at:
            held[owner] = held.get(owner, ZERO) + quantity
    return {owner: quantity for owner, quantity in held.items() if quantity}


def reassign(act: Act, event: Reassignment) -> None:
    """Give an execution, or a part of it, to another owner, in the place where it stands; its fees go along.

    Raises: ConflictError when the giver has less of it.
    """
    con_id, shares, slot = live_shares(act, event.exec_id)
    share = shares.get(event.giver, Holding())
    wanted = abs(share.quantity) if event.quantity is None else event.quantity
    if not share.quantity or abs(share.quantity) < wanted:
        owners = ", ".join(f"{owner} {plain(abs(size))}" for owner, size in sorted(by_quantity(shares).items()))
        raise ConflictError(
            f"{event.giver} does not have {plain(wanted)} of execution {event.exec_id}; it belongs to {owners}."
            if wanted
            else f"{event.giver} has nothing of execution {event.exec_id}; it belongs to {owners}.",
            code="not_held",
        )
    given = _part_of(act, share, wanted, con_id)
    execution = act.row.execution
    assert execution is not None  # noqa: S101 - live_shares found it
    for owner, sign in ((event.giver, -1), (event.receiver, 1)):
        lines = _share_lines(act, event, owner, given, sign, con_id, execution.price, slot)
        journal = act.refolder.journal(owner, con_id)
        for line in lines:
            journal.add(execution_ref(event.exec_id), line, slot, moment_of(execution.family))
        if owner == event.giver:
            check_exercised(journal)
        act.refolder.settle(owner, con_id, lines)


def check_exercised(journal: Journal) -> None:
    """Refuse a past in which an owner did not hold what it exercised: its shares stay, the option would be a phantom.

    Raises: ConflictError that names the exercise.
    """
    entries = in_place(journal.all_entries())
    for ref, event in journal.events.items():
        if not event.fixed:
            continue
        before = refold(entries[: entries.index(event.entry)], journal.multiplier).quantity
        after = before + event.entry.amount
        if before * event.entry.amount >= 0 or before * after < 0:
            raise ConflictError(
                f"{journal.owner} exercised what this takes away, by {ref.removeprefix('adj:')}; undo that first.",
                code="depended_on",
            )


def _part_of(act: Act, share: Holding, wanted: Decimal, con_id: int) -> Holding:
    """Return a part of a share; all of it takes what rounding left."""
    if wanted == abs(share.quantity):
        return share
    execution = act.row.execution
    assert execution is not None  # noqa: S101 - live_shares found it
    quantity = wanted if share.quantity > 0 else -wanted
    fees = {currency: exact(amount * quantity / share.quantity) for currency, amount in share.fees.items()}
    return Holding(quantity, fill_cash(quantity, execution.price, act.books.instruments[con_id].multiplier), fees)


def _share_lines(
    act: Act,
    event: Reassignment,
    owner: str,
    given: Holding,
    sign: int,
    con_id: int,
    price: Decimal,
    slot: int,
) -> list[Line]:
    common: dict[str, Any] = {"exec_id": event.exec_id, "con_id": con_id, "slot": slot}
    lines = [
        act.line(
            owner,
            MovementKind.ASSIGNMENT,
            act.books.instruments[con_id].currency,
            quantity=sign * given.quantity,
            price=price,
            cash=sign * given.cash,
            **common,
        )
    ]
    for currency, amount in sorted(given.fees.items()):
        if amount:
            cash = -sign * amount
            lines.append(act.line(owner, MovementKind.ASSIGNMENT, currency, cash=cash, fee=True, **common))
    return lines


CASH_EFFECTS: dict[AdjustmentKind, Callable[[Act, Any], None]] = {
    AdjustmentKind.DEPOSIT: flow,
    AdjustmentKind.WITHDRAWAL: flow,
    AdjustmentKind.INTEREST: flow,
    AdjustmentKind.TRANSFER_CASH: transfer_cash,
    AdjustmentKind.REBALANCE: transfer_cash,
    AdjustmentKind.TRANSFER_POSITION: transfer_position,
    AdjustmentKind.FEE: fee,
    AdjustmentKind.DIVIDEND: income,
    AdjustmentKind.TAX: income,
    AdjustmentKind.REASSIGNMENT: reassign,
}
