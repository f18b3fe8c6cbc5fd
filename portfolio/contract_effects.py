"""What splits, changes of contract, expiries and exercises do to the books.

Owns: these events. Rule: each acts on every owner of the contract, at its moment: movements of fills that were executed
after it keep their place behind it, though they were booked before.

* split: quantity × numerator / denominator, the basis stays, so value and realised P&L do; a fraction stays as well
  unless cash in lieu says that it was sold;
* change of contract: everything leaves at its cost and comes back as the new contract for that cost;
* expiry: everything closes at the settlement price; a cash-settled option at its intrinsic value;
* exercise and assignment: shares move at the strike, and the premium goes into their basis (``docs/adr/0007``).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from portfolio.effects import Act
from portfolio.late import slot_at
from portfolio.ledger.cash import fill_cash
from portfolio.ledger.events import CashInLieu, Event, Exercise, Expiry, Split, SymbolChange, refused
from portfolio.ledger.journal import Entry
from portfolio.ledger.money import ZERO, exact, plain
from portfolio.ledger.shares import divide, grain
from portfolio.ledger.validity import price_fault
from portfolio.models import AdjustmentKind, Execution, Instrument, Mark, MovementKind
from portfolio.refolding import NOW, Happening, happening
from portfolio.shares import by_quantity, holdings_of
from strategies.exceptions import ConflictError


def split(act: Act, event: Split) -> None:
    """Multiply what everybody holds."""
    instrument = act.instrument(event.con_id)
    _happen(act, instrument)
    if event.cash_in_lieu is not None:
        _sell_fractions(act, instrument, event.cash_in_lieu)


def symbol_change(act: Act, event: SymbolChange) -> None:
    """Turn a contract into another, at cost."""
    old, new = act.instrument(event.con_id), act.instrument(event.new_con_id, "new_con_id")
    if old.currency != new.currency:
        raise refused({"new_con_id": f"trades in {new.currency}, contract {old.con_id} in {old.currency}"})
    _happen(act, old)


def expiry(act: Act, event: Expiry) -> None:
    """End a contract at its settlement price."""
    instrument = act.instrument(event.con_id)
    fault = price_fault(instrument.sec_type, event.settlement_price) if event.settlement_price else ""
    if fault:
        raise refused({"settlement_price": fault})
    _happen(act, instrument)


def _happen(act: Act, instrument: Instrument) -> None:
    """Put the event into the journal of everybody who has, or had, the contract.

    Raises: ConflictError when it changes nothing: nobody held the contract then.
    """
    event = happening(act.row, slot_at(act.row.account_id, instrument.con_id, act.row.effective_at))
    before = len(act.refolder.lines)
    for owner in act.books.owners_of(instrument.con_id):
        act.refolder.journal(owner, instrument.con_id).events[act.ref] = event
        act.refolder.settle(owner, instrument.con_id)
    if len(act.refolder.lines) == before:
        raise ConflictError(f"Nobody held {instrument} then.", code="nothing_held", con_id=instrument.con_id)


def _sell_fractions(act: Act, instrument: Instrument, paid: CashInLieu) -> None:
    """Sell what the broker paid for, by the fractions that owners hold."""
    if paid.currency != instrument.currency:
        raise refused({"cash_in_lieu.currency": f"{instrument} trades in {instrument.currency}"})
    held = {owner: act.books.position(owner, instrument.con_id).quantity for owner in _holders(act, instrument)}
    net = sum(held.values(), ZERO)
    if abs(net) < paid.quantity:
        raise ConflictError(f"Less than {plain(paid.quantity)} {instrument} is held.", code="not_held")
    # The broker rounds what the account holds in all; owners on the other side keep their fractions.
    side = {owner: quantity for owner, quantity in held.items() if quantity * net > 0}
    fractions = {owner: part for owner, quantity in side.items() if (part := quantity - _whole(quantity))}
    if abs(sum(fractions.values(), ZERO)) < paid.quantity:
        fractions = side
    sign = 1 if net > 0 else -1
    sold = divide(-sign * paid.quantity, fractions)
    cash = divide(sign * paid.amount, fractions)
    price = exact(paid.amount / paid.quantity / instrument.multiplier)
    for owner, quantity in sorted(sold.items()):
        line = act.line(
            owner,
            MovementKind.ADJUSTMENT,
            instrument.currency,
            con_id=instrument.con_id,
            quantity=quantity,
            price=price,
            cash=cash[owner],
        )
        act.refolder.journal(owner, instrument.con_id).add(act.ref, line, NOW)
        act.refolder.settle(owner, instrument.con_id, [line])


def _whole(quantity: Decimal) -> Decimal:
    """Return a quantity without its fraction, toward zero."""
    size = abs(quantity).to_integral_value(rounding=ROUND_FLOOR)
    return size if quantity > 0 else -size


def _holders(act: Act, instrument: Instrument) -> list[str]:
    owners = act.books.owners_of(instrument.con_id)
    return [owner for owner in owners if act.books.position(owner, instrument.con_id).quantity]


def exercise(act: Act, event: Exercise) -> None:
    """Turn contracts of an option into its underlying: long ones are exercised, short ones assigned."""
    option, underlying = act.instrument(event.con_id), act.instrument(event.underlying_con_id, "underlying_con_id")
    if option.strike is None or option.right not in {"C", "P"}:
        raise refused({"con_id": f"{option} is no option with strike and right"})
    if option.currency != underlying.currency:
        raise refused({"underlying_con_id": f"trades in {underlying.currency}, the option in {option.currency}"})
    contracts = _contracts(act, event, option)
    if not contracts:
        raise ConflictError(f"Nobody holds {option}.", code="nothing_held", con_id=option.con_id)
    for owner, quantity in sorted(contracts.items()):
        _exercise_of(act, owner, quantity, option, underlying)


def _contracts(act: Act, event: Exercise, option: Instrument) -> dict[str, Decimal]:
    """Return how many contracts of each owner go, signed as they are held.

    Raises: ConflictError when an owner holds fewer.
    """
    held = {owner: act.books.position(owner, option.con_id).quantity for owner in _holders(act, option)}
    if event.owners:
        wanted = {owner: size if held.get(owner, ZERO) > 0 else -size for owner, size in event.owners}
    elif event.quantity is None:
        wanted = dict(held)
    else:
        net = sum(held.values(), ZERO)
        side = {owner: size for owner, size in held.items() if size * net > 0}
        signed = event.quantity if net > 0 else -event.quantity
        wanted = divide(signed, side, grain(signed, *side.values())) if side else {"": signed}
    for owner, size in wanted.items():
        if abs(size) > abs(held.get(owner, ZERO)):
            raise ConflictError(
                f"{owner or 'Nobody'} holds {plain(held.get(owner, ZERO))} {option}, not {plain(abs(size))}.",
                code="not_held",
            )
    return {owner: size for owner, size in wanted.items() if size}


def _exercise_of(act: Act, owner: str, contracts: Decimal, option: Instrument, underlying: Instrument) -> None:
    assert option.strike is not None  # noqa: S101 - checked by exercise
    place = slot_at(act.row.account_id, option.con_id, act.row.effective_at)
    entry = Entry(place, "leave", -contracts, ref=act.ref, at=act.row.effective_at)
    taken = Happening(entry, MovementKind.EXERCISE, act.row.pk, underlying.con_id, fixed=True)
    direction = contracts if option.right == "C" else -contracts
    quantity = exact(direction * option.multiplier / underlying.multiplier)
    line = act.line(
        owner,
        MovementKind.EXERCISE,
        underlying.currency,
        con_id=underlying.con_id,
        quantity=quantity,
        price=option.strike,
        cash=fill_cash(quantity, option.strike, underlying.multiplier),
    )
    act.refolder.journal(owner, underlying.con_id).add(act.ref, line, NOW, act.row.effective_at)
    act.refolder.settle(owner, underlying.con_id, [line])
    act.refolder.journal(owner, option.con_id).events[act.ref] = taken
    act.refolder.settle(owner, option.con_id)


def name_owner(exec_id: str) -> None:
    """Have an execution name its owner, of a divided one the first that still has a part, and say it is divided."""
    row = Execution.objects.get(exec_id=exec_id)
    shares = by_quantity(holdings_of(exec_id)[0])
    if shares and row.owner not in shares:
        row.owner = max(shares, key=lambda owner: (abs(shares[owner]), owner))
    row.divided = len(shares) > 1
    row.save(update_fields=["owner", "divided"])


def rescale_mark(event: Event, effective_at: datetime, *, undone: bool) -> None:
    """Divide the last price of a contract that was split, so that its value stays until the next price comes.

    A price of after the split is one of new units already: a split is often booked a day late, from the statement.
    """
    if not isinstance(event, Split):
        return
    up, down = (event.numerator, event.denominator) if undone else (event.denominator, event.numerator)
    for mark in Mark.objects.filter(instrument_id=event.con_id, marked_at__lt=effective_at):
        mark.price = exact(mark.price * up / down)
        mark.save(update_fields=["price"])


CONTRACT_EFFECTS: dict[AdjustmentKind, Callable[[Act, Any], None]] = {
    AdjustmentKind.SPLIT: split,
    AdjustmentKind.SYMBOL_CHANGE: symbol_change,
    AdjustmentKind.EXPIRY: expiry,
    AdjustmentKind.EXERCISE: exercise,
}
