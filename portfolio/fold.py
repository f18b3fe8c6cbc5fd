"""Fold executions and commissions into the books, exactly once, whatever order or number they arrive in.

Owns: the rules of a batch. Leaves: arithmetic (``ledger``), loading and writing (``books``), corrections
(``corrections``).

* An execution is known by its id: a second report is a no-op.
* A commission is its own movement on its execution; it may come before it (it waits), with it, after it or never.
  In the instrument's currency it lowers the position's realised P&L; in another currency it lowers cash in that
  currency and is realised there: nothing is converted.
* The highest revision of an execution is in force. A later one reverses its predecessor, fee included, and posts anew,
  whatever it corrects: size, price, side or contract; one that arrives after its successor is recorded as superseded
  and moves nothing. One to a quantity of zero takes the fill back: nothing is posted in its place. It happened when
  its predecessor did, whatever time it gives: dividends, days and splits go by when the fill was.
* A commission of an execution that was walked back when the books were opened, and that nobody knew then, was in the
  broker's cash already: what the opening left out for it is booked with it, and the account's cash does not move.
* What contradicts the books (a booked id with other content, a second fee that differs, a correction that names another
  account) changes nothing and is returned as a contradiction for a person to look at.
* Live executions are folded in the order of their arrival, for that is when the books knew them. Executions that the
  broker repeats together on request have no order of arrival: among themselves they are folded in the order of time.
  A fill from before a split, or another event of its contract, that is booked already is folded before it (``late``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from portfolio.books import Booked, Books, fill_line, opening_fee
from portfolio.changes import books_changed
from portfolio.corrections import fee_lines, replace_revision
from portfolio.facts import CommissionFact, Contradiction, ExecutionFact, FoldResult
from portfolio.instruments import ensure_instruments, fill_in_money
from portfolio.late import last_events, post_in_place
from portfolio.ledger.money import ZERO, exact, plain
from portfolio.ledger.positions import PositionState, apply_commission, apply_fill, average_cost
from portfolio.ledger.revisions import split_exec_id
from portfolio.ledger.validity import check_commission, check_fee, check_fill, is_bust, is_quantity
from portfolio.models import Instrument
from strategies.events import CommissionSnapshot, ContractSnapshot, FillSnapshot
from strategies.exceptions import LedgerError
from strategies.ordering import take_turn

logger = logging.getLogger(__name__)

OwnerOf = Callable[[FillSnapshot], str]
Item = FillSnapshot | CommissionSnapshot
COMBINATION = "BAG"  # IB reports a combination beside its legs; only the legs are held and paid for


def fold_batch(account_id: str, items: Sequence[Item], owner_of: OwnerOf, now: datetime) -> FoldResult:
    """Book a batch inside the caller's transaction (or one of its own) and return what changed.

    Shape: items in the order of arrival. ``owner_of`` is asked once for each new execution.
    Raises: LedgerError when a report cannot be booked, with a code of ``ledger.validity``; the transaction is then lost
    as a whole, and whoever called it folds the items one by one to set the bad one aside.
    """
    with transaction.atomic(savepoint=False):
        take_turn()
        fold = _Fold(account_id, owner_of, now)
        result = fold.run(items)
        books_changed()
    return result


class _Fold:
    """One batch."""

    def __init__(self, account_id: str, owner_of: OwnerOf, now: datetime) -> None:
        self.books = Books(account_id, now)
        self.owner_of = owner_of
        self._foreign: list[FillSnapshot] = []
        self._events: dict[int, datetime] = {}  # contract → when it was split, changed, … last
        self.result = FoldResult()

    def run(self, items: Sequence[Item]) -> FoldResult:
        mine = [item for item in in_order(items) if self._is_ours(item)]
        fills = [item for item in mine if isinstance(item, FillSnapshot)]
        exec_ids = {item.exec_id for item in mine}
        families = {split_exec_id(exec_id)[0] for exec_id in exec_ids}
        self.books.load(families | {split_exec_id(one.exec_id)[0] for one in self._foreign}, exec_ids, set())
        self._take_contracts(fill for fill in fills if fill.exec_id not in self.books.executions)
        for item in mine:
            if isinstance(item, FillSnapshot):
                self._fill(item)
            else:
                check_commission(item)
                self._commission(item.exec_id, item.amount, item.currency)
        for fill in self._foreign:
            self._check_foreign(fill)
        self.books.write()
        self._report()
        return self.result

    def _take_contracts(self, fills: Iterable[FillSnapshot]) -> None:
        contracts: dict[int, ContractSnapshot] = {}
        for fill in fills:
            check_fill(fill)
            contract = fill.contract
            known = contracts.setdefault(contract.con_id, contract)
            if known is not contract and _facts(known) != _facts(contract):
                raise LedgerError(
                    f"Execution {fill.exec_id} describes contract {contract.con_id} otherwise than the one before it.",
                    code="instrument_changed",
                    exec_id=fill.exec_id,
                    con_id=contract.con_id,
                )
            contracts[contract.con_id] = contract
        self.books.take_instruments(ensure_instruments(contracts.values()).values())
        self._events = last_events(self.books.account_id, contracts)

    def _is_ours(self, item: Item) -> bool:
        if isinstance(item, CommissionSnapshot):
            return True
        if item.contract.sec_type == COMBINATION:
            logger.info("combination left to its legs exec_id=%s", item.exec_id)
        elif not item.account or item.account == self.books.account_id:
            return True
        else:
            logger.error("execution of another account ignored exec_id=%s account=%s", item.exec_id, item.account)
            self._foreign.append(item)
        self.result.ignored += 1
        return False

    def _check_foreign(self, fill: FillSnapshot) -> None:
        family, revision = split_exec_id(fill.exec_id)
        known = self.books.live.get(family)
        if known is not None and known.revision <= revision:
            self._contradict(
                known, f"{fill.exec_id} says account {fill.account}; {known.exec_id} is booked in this account."
            )

    def _contradict(self, known: Booked, text: str) -> None:
        logger.error("execution contradicts the books exec_id=%s: %s The books stay.", known.exec_id, text)
        self.result.contradictions.append(Contradiction(known.exec_id, known.con_id, text))

    def _fill(self, fill: FillSnapshot) -> None:
        fee = None
        if fill.commission is not None:
            check_fee(fill.exec_id, fill.commission, fill.commission_currency or fill.contract.currency)
            fee = exact(fill.commission), fill.commission_currency or fill.contract.currency
        if fill.exec_id not in self.books.executions:
            self._new_fill(fill_in_money(fill, self.books.instruments[fill.contract.con_id]), fee)
            return
        self.result.duplicates += 1
        known = self.books.executions[fill.exec_id]
        if not _agrees(known, fill, self.books.instruments[known.con_id]):
            self._contradict(
                known,
                f"Booked {plain(known.quantity)} at {plain(known.price)} of contract {known.con_id}, said "
                f"{fill.side} {fill.quantity} at {fill.price} of contract {fill.contract.con_id}.",
            )
            return
        if fee is not None and known.commission is None:
            self._commission(fill.exec_id, *fee)

    def _new_fill(self, fill: FillSnapshot, fee: tuple[Decimal, str] | None) -> None:
        booked = self._booked(fill)
        before = self.books.live.get(booked.family)
        change, corrects = booked.quantity, ""
        if before is None and not booked.quantity:
            self.books.add_execution(booked)
        elif before is None and self._is_late(fill):
            post_in_place(self.books, booked, fill.executed_at)
        elif before is None:
            self._post(booked)
        elif before.revision < booked.revision:
            change, corrects = booked.quantity - before.quantity, before.exec_id
            booked.executed_at = before.executed_at  # a correction may say when it was made: the fill was before
            replace_revision(self.books, before, booked)
        else:
            booked.superseded, change = True, ZERO
            self.books.add_execution(booked)
        fee = self.books.take_pending(fill.exec_id) or fee
        if fee is not None:
            self._book_fee(booked, *fee)
        self.result.new_executions.append(self._fact(fill, booked, change, corrects))

    def _is_late(self, fill: FillSnapshot) -> bool:
        event = self._events.get(fill.contract.con_id)
        return event is not None and fill.executed_at < event

    def _booked(self, fill: FillSnapshot) -> Booked:
        family, revision = split_exec_id(fill.exec_id)
        owner = self.owner_of(fill)
        quantity = exact(fill.quantity if fill.side == "BOT" else -fill.quantity)
        return Booked(
            exec_id=fill.exec_id,
            family=family,
            revision=revision,
            superseded=False,
            owner=owner,
            con_id=fill.contract.con_id,
            order_ref=fill.order_ref,
            quantity=quantity,
            price=exact(fill.price),
            commission=None,
            commission_currency="",
            executed_at=fill.executed_at,
            source=fill,
        )

    def _post(self, booked: Booked) -> None:
        books = self.books
        instrument = books.instruments[booked.con_id]
        result = apply_fill(
            books.position(booked.owner, booked.con_id),
            booked.quantity,
            booked.price,
            None,
            instrument.multiplier,
        )
        books.set_position(booked.owner, booked.con_id, result.position)
        books.add_execution(booked)
        books.book(fill_line(booked, instrument, result.realized_pnl))

    def _commission(self, exec_id: str, amount: Decimal, currency: str) -> None:
        amount = exact(amount)
        booked = self.books.executions.get(exec_id)
        if booked is None:
            if self.books.pending.get(exec_id) == (amount, currency):
                self.result.duplicates += 1
            else:
                self.books.add_pending(exec_id, amount, currency)
            return
        if booked.commission is None:
            self._book_fee(booked, amount, currency)
            self._report_fee(booked, amount, currency)
            return
        self.result.duplicates += 1
        if (booked.commission, booked.commission_currency) != (amount, currency or booked.commission_currency):
            self._contradict(
                booked,
                f"A second commission differs: booked {plain(booked.commission)} {booked.commission_currency}, "
                f"said {plain(amount)} {currency}.",
            )

    def _book_fee(self, booked: Booked, amount: Decimal, currency: str) -> None:
        currency = currency or self.books.instruments[booked.con_id].currency  # nothing paid may come without one
        booked.commission, booked.commission_currency = amount, currency
        self.books.change_execution(booked)
        if amount and self.books.was_in_opening(booked):
            self.books.book(opening_fee(booked.exec_id, amount, currency))
        if booked.superseded:
            return
        for line in fee_lines(self.books, booked, amount, currency):
            if currency == self.books.instruments[booked.con_id].currency:
                state = apply_commission(self.books.position(line.owner, booked.con_id), -line.cash)
                self.books.set_position(line.owner, booked.con_id, state)
            self.books.book(line)

    def _report_fee(self, booked: Booked, amount: Decimal, currency: str) -> None:
        self.result.commissions.append(
            CommissionFact(
                exec_id=booked.exec_id,
                strategy=booked.owner,
                order_ref=booked.order_ref,
                con_id=booked.con_id,
                commission=amount,
                currency=currency,
                realized_pnl=self.books.position(booked.owner, booked.con_id).realized_pnl,
            )
        )

    def _fact(self, fill: FillSnapshot, booked: Booked, change: Decimal, corrects: str) -> ExecutionFact:
        state = self.books.position(booked.owner, booked.con_id)
        return ExecutionFact(
            exec_id=fill.exec_id,
            strategy=booked.owner,
            order_ref=fill.order_ref,
            perm_id=fill.perm_id,
            client_id=fill.client_id,
            order_id=fill.order_id,
            con_id=booked.con_id,
            symbol=fill.contract.symbol,
            sec_type=fill.contract.sec_type,
            side=fill.side,
            quantity=fill.quantity,
            quantity_change=change,
            price=fill.price,
            currency=fill.contract.currency,
            executed_at=booked.executed_at or fill.executed_at,
            commission=booked.commission,
            cum_quantity=fill.cum_quantity,
            average_price=fill.average_price,
            position=state.quantity,
            average_cost=self._average(booked.con_id, state),
            realized_pnl=state.realized_pnl,
            corrects=corrects,
            superseded=booked.superseded,
            is_replay=fill.is_replay,
            received_ns=fill.received_ns,
        )

    def _average(self, con_id: int, state: PositionState) -> Decimal:
        return average_cost(state.quantity, state.cost_basis, self.books.instruments[con_id].multiplier)

    def _report(self) -> None:
        self.result.touched_positions.extend(self.books.position_facts())
        self.result.touched_cash.extend(self.books.cash_facts())


def _agrees(known: Booked, fill: FillSnapshot, instrument: Instrument) -> bool:
    """Tell whether a repeated execution says what is booked: an id that returns with other content is no duplicate."""
    if not ((is_quantity(fill.quantity) or is_bust(fill)) and fill.price.is_finite()):
        return False
    fill = fill_in_money(fill, instrument)
    quantity = exact(fill.quantity if fill.side == "BOT" else -fill.quantity)
    return (known.con_id, known.quantity, known.price) == (fill.contract.con_id, quantity, exact(fill.price))


def _facts(contract: ContractSnapshot) -> tuple[object, ...]:
    return contract.sec_type, contract.currency, contract.multiplier


def in_order(items: Sequence[Item]) -> Sequence[Item]:
    """Return the items with replayed executions in the order of time among themselves; all else stays in its place."""
    places = [at for at, item in enumerate(items) if isinstance(item, FillSnapshot) and item.is_replay]
    if len(places) < 2:
        return items
    arranged = list(items)
    replayed = [item for item in items if isinstance(item, FillSnapshot) and item.is_replay]
    for at, item in zip(places, sorted(replayed, key=lambda fill: fill.executed_at), strict=True):
        arranged[at] = item
    return arranged
