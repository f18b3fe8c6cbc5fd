"""The stateful proof: whatever happens in whatever order, the books are what the broker's truth makes them.

Owns: the deeds and their bundles. Leaves: broker, model, engine and laws to ``books_venue``, ``books_model``,
``books_rig`` and ``books_desk``. ``docs/proof.md`` tells how to run it long and how to repeat a failure.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from portfolio import services as books
from portfolio.hourly import hour_of, take_hourly_snapshot
from portfolio.rebalance import apply
from strategies.events import ContractSnapshot
from strategies.models import Strategy
from tests.properties.books_desk import decimal
from tests.properties.books_model import NOBODY, ZERO, Held
from tests.properties.books_rig import ACCOUNT, own_clocks
from tests.properties.books_trading import Trading, amounts, currencies, owners, prices, sizes
from tests.properties.books_venue import FOREIGN, FUTURE, OPTION, RENAMED, STOCK

pytestmark = pytest.mark.django_db(transaction=True)

RATIOS = (Fraction(2), Fraction(3, 2), Fraction(1, 2), Fraction(5, 4))


class Books(Trading):
    """All that can happen to an account."""

    steps = 0
    verify_every = 10

    strategies, contracts, executions = Trading.strategies, Trading.contracts, Trading.executions
    bookings = Trading.bookings

    # -- what is no fill

    @rule(target=bookings, exec_id=executions, giver=owners, receiver=owners, size=st.one_of(st.none(), sizes))
    def assign(self, exec_id: str, giver: str, receiver: str, size: int | None) -> Any:
        known = self.desk.model.reports.get(exec_id)
        if giver == receiver or known is None:
            return multiple()
        shares = known.divided()
        if giver not in shares and size != 13:
            giver = sorted(shares)[0] if shares else giver  # mostly somebody who has it
        return _kept(self.desk.assign(exec_id, giver, receiver, size)) if giver != receiver else multiple()

    @rule(key=consumes(bookings))
    def undo(self, key: str) -> None:
        if key in self.desk.booked:
            self.desk.undo(key)

    @rule(
        target=bookings,
        kind=st.sampled_from(["deposit", "withdrawal", "interest", "fee"]),
        owner=owners,
        currency=currencies,
        amount=amounts,
        true=st.booleans(),
    )
    def money(self, kind: str, owner: str, currency: str, amount: Decimal, true: bool) -> Any:
        """Money from or to the outside; what the broker knows nothing of opens a break."""
        signed = Fraction(amount) * (-1 if kind in ("withdrawal", "fee") else 1)

        def _tell(key: str) -> None:
            if kind in ("deposit", "withdrawal"):
                self.desk.model.book(key, "flow", self.venue.now, moves={(owner, currency): signed})
            else:
                self.desk.model.book(key, "income", self.venue.now, parts={owner: signed}, currency=currency)

        if true:
            self.venue.act("money", currency=currency, amount=signed)
        return _kept(self.desk.book(kind, {"owner": owner, "currency": currency, "amount": amount}, _tell))

    @rule(target=bookings, giver=owners, receiver=owners, currency=currencies, amount=amounts)
    def move_cash(self, giver: str, receiver: str, currency: str, amount: Decimal) -> Any:
        if giver == receiver:
            return multiple()
        details = {"from": giver, "to": receiver, "currency": currency, "amount": amount}
        return _kept(
            self.desk.book(
                "transfer_cash",
                details,
                lambda key: self.desk.move_cash(key, giver, receiver, currency, Fraction(amount)),
            )
        )

    @rule(
        target=bookings,
        giver=owners,
        receiver=owners,
        of=contracts,
        size=sizes,
        price=st.one_of(st.none(), prices),
    )
    def move_position(self, giver: str, receiver: str, of: ContractSnapshot, size: int, price: Decimal | None) -> Any:
        if giver == receiver:
            return multiple()
        held = self.desk.model.fold().held[giver, of.con_id]
        moved = Fraction(size) * (1 if held.quantity > 0 else -1)
        cash = held.cost_of(moved)
        if price is not None:
            cash = moved * Fraction(price) * Fraction(of.multiplier)
        data = {"giver": giver, "receiver": receiver, "con_id": of.con_id, "quantity": moved, "cash": cash}
        details = {"from": giver, "to": receiver, "con_id": of.con_id, "quantity": Decimal(size), "price": price}
        return _kept(
            self.desk.book(
                "transfer_position",
                details,
                lambda key: self.desk.model.book(key, "transfer", self.venue.now, **data),
                refuses=abs(held.quantity) < size,
            )
        )

    @rule(
        target=bookings,
        owner=owners,
        of=st.sampled_from([STOCK, FOREIGN, OPTION, FUTURE]),
        size=sizes,
        short=st.booleans(),
        price=st.one_of(st.just(Decimal(0)), prices),
    )
    def receive_units(self, owner: str, of: ContractSnapshot, size: int, short: bool, price: Decimal) -> Any:
        quantity = Fraction(-size if short else size)
        cost = quantity * Fraction(price) * Fraction(of.multiplier)
        details = {"owner": owner, "con_id": of.con_id, "quantity": Decimal(int(quantity)), "price": price}
        return self._units("receipt", details, quantity, cost, self._held(owner, of).quantity * quantity < 0)

    @rule(target=bookings, owner=owners, of=st.sampled_from([STOCK, FOREIGN, OPTION]), size=sizes)
    def deliver_units(self, owner: str, of: ContractSnapshot, size: int) -> Any:
        held = self._held(owner, of)
        moved = Fraction(size) * (1 if held.quantity > 0 else -1)
        details = {"owner": owner, "con_id": of.con_id, "quantity": Decimal(size)}
        return self._units("delivery", details, -moved, -held.cost_of(moved), abs(held.quantity) < size)

    def _held(self, owner: str, of: ContractSnapshot) -> Held:
        return self.desk.model.fold().held[owner, of.con_id]

    def _units(self, kind: str, details: dict[str, Any], quantity: Fraction, cost: Fraction, refuses: bool) -> Any:
        data = {"owner": details["owner"], "con_id": details["con_id"], "quantity": quantity, "cash": -cost}
        key = self.desk.book(
            kind, details, lambda key: self.desk.model.book(key, "units", self.venue.now, **data), refuses=refuses
        )
        if key:
            self.venue.act("units", con_id=details["con_id"], quantity=quantity, cost=cost)
        return _kept(key)

    @rule(target=bookings, of=contracts, currency=currencies, amount=amounts, tax=st.booleans(), named=st.booleans())
    def dividend(self, of: ContractSnapshot, currency: str, amount: Decimal, tax: bool, named: bool) -> Any:
        signed = -amount if tax else amount
        details: dict[str, Any] = {"con_id": of.con_id, "currency": currency, "amount": signed}
        parts = self.desk.dividend(of.con_id, Fraction(signed))
        if named:
            parts = {"ALPHA": Fraction(signed) - 1, NOBODY: Fraction(1)} if signed != 1 else {"ALPHA": Fraction(1)}
            details["owners"] = {owner: decimal(part) for owner, part in parts.items()}
        self.venue.act("money", currency=currency, amount=Fraction(signed))
        data = {"parts": parts, "currency": currency, "con_id": of.con_id}
        return _kept(
            self.desk.book(
                "tax" if tax else "dividend",
                details,
                lambda key: self.desk.model.book(key, "income", self.venue.now, **data),
            )
        )

    @rule(target=bookings, exec_id=executions, currency=currencies, amount=amounts)
    def correct_fee(self, exec_id: str, currency: str, amount: Decimal) -> Any:
        """A correction of a commission goes to the owners of the execution."""
        if exec_id not in self.desk.model.live():
            return multiple()
        self.venue.act("money", currency=currency, amount=-Fraction(amount))
        details = {"exec_id": exec_id, "currency": currency, "amount": amount}
        return _kept(
            self.desk.book("fee", details, lambda key: self.desk.model.fee(key, exec_id, Fraction(amount), currency))
        )

    # -- what happens to contracts

    def _moment(self, back: int) -> datetime:
        """No two events have the same moment: nothing says which of them came first."""
        self.moments += 1
        return self.venue.tick() - timedelta(seconds=back, microseconds=self.moments)

    def _happen(self, kind: str, details: dict[str, Any], at: datetime, act: str, **data: Any) -> Any:
        con_id = details["con_id"]
        trial, model = "trial", self.desk.model
        model.happen(trial, act, at, con_id, **data)
        before = model.fold(model.events[trial].key)
        model.forget(trial)
        held = [one for (_, of), one in before.held.items() if of == con_id and one.quantity]
        return self.desk.book(
            kind,
            details,
            lambda key: model.happen(key, act, at, con_id, **data),
            at=at,
            refuses=None if self.desk.armed else not held,
        )

    @rule(
        target=bookings,
        of=st.sampled_from([STOCK, FOREIGN, RENAMED]),
        ratio=st.sampled_from(RATIOS),
        back=st.sampled_from([0, 0, 0, 3, 20]),
    )
    def split(self, of: ContractSnapshot, ratio: Fraction, back: int) -> Any:
        at = self._moment(back)
        details = {
            "con_id": of.con_id,
            "numerator": Decimal(ratio.numerator),
            "denominator": Decimal(ratio.denominator),
        }
        key = self._happen("split", details, at, "split", ratio=ratio)
        if key:
            self.venue.act("split", at, con_id=of.con_id, ratio=ratio)
        return _kept(key)

    @rule(target=bookings, back=st.booleans())
    def change_symbol(self, back: bool) -> Any:
        old, new = (RENAMED, STOCK) if back else (STOCK, RENAMED)
        at = self._moment(0)
        key = self._happen(
            "symbol_change",
            {"con_id": old.con_id, "new_con_id": new.con_id},
            at,
            "change",
            new=new.con_id,
            ratio=Fraction(1),
        )
        if key:
            self.venue.act("change", at, con_id=old.con_id, new=new.con_id)
        return _kept(key)

    @rule(target=bookings, of=st.sampled_from([OPTION, FUTURE]), price=st.one_of(st.just(Decimal(0)), prices))
    def expire(self, of: ContractSnapshot, price: Decimal) -> Any:
        at = self._moment(0)
        details = {"con_id": of.con_id, "settlement_price": price}
        key = self._happen("expiry", details, at, "expiry", price=Fraction(price))
        if key:
            self.venue.act("expiry", at, con_id=of.con_id, price=Fraction(price), multiplier=Fraction(of.multiplier))
        return _kept(key)

    @rule(target=bookings)
    def exercise(self) -> Any:
        """Everybody's calls become shares."""
        state = self.desk.model.fold()
        held = {owner: one.quantity for (owner, of), one in state.held.items() if of == 3 and one.quantity}
        at = self._moment(0)
        key = self.desk.book(
            "exercise",
            {"con_id": OPTION.con_id, "underlying_con_id": STOCK.con_id},
            lambda name: self.desk.model.happen(name, "exercise", at, OPTION.con_id, underlying=1, owners=held),
            at=at,
            refuses=not held,
        )
        if key:
            self.venue.act("exercise", at, contracts=sum(held.values(), ZERO))
        return _kept(key)

    # -- figures

    @rule(of=contracts, price=prices, dollar=st.decimals(Decimal("0.8"), Decimal("1.4"), places=4))
    def prices_and_rates_move(self, of: ContractSnapshot, price: Decimal, dollar: Decimal) -> None:
        self.desk.price({of.con_id: price})
        rows = [
            ("ExchangeRate", str(dollar), "EUR"),
            ("ExchangeRate", "1.3", "GBP"),
            ("NetLiquidation", "900000", "USD"),
        ]
        self.desk.engine.do(lambda: books.record_account_values(ACCOUNT, rows, self.venue.tick()), "values")

    @rule()
    def take_the_hour(self) -> None:
        now = self.venue.tick(hours=1)
        self.desk.price({})
        self.desk.engine.do(lambda: take_hourly_snapshot(ACCOUNT, hour_of(now), now), "hour")

    @rule(symbol=strategies, weight=st.integers(0, 50))
    def change_the_limits(self, symbol: str, weight: int) -> None:
        target = Decimal(weight) / 100
        Strategy.objects.filter(symbol=symbol).update(min_weight=target / 2, target_weight=target, max_weight=target)

    @rule(force=st.booleans())
    def rebalance(self, force: bool) -> None:
        self.desk.price({})
        now, number = self.venue.tick(), self.desk.actions
        key = f"rebalance:{number}:{self.venue.numbers}:{now:%d%H%M%S}"
        lines, booked = self.desk.engine.do(
            lambda: apply(ACCOUNT, None, force=force, actor="ann", source="page", key=key, now=now), "rebalance"
        )
        for line in lines:
            if line.amount:
                self.desk.move_cash(
                    f"{key}:{line.strategy}", NOBODY, line.strategy, line.currency, Fraction(line.amount)
                )
        self.desk.actions += len(booked)

    # -- laws

    @invariant()
    def the_books_are_what_the_truth_makes_them(self) -> None:
        Books.steps += 1
        self.steps_taken += 1
        self.desk.check()
        if self.steps_taken % self.verify_every == 0:
            self.desk.verify()

    def teardown(self) -> None:
        self.desk.settle()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Every refusal is logged with its traceback: thousands of them tell nothing here."""
    logging.disable(logging.CRITICAL)
    with own_clocks():
        yield
    logging.disable(logging.NOTSET)


def _kept(key: str) -> Any:
    return key or multiple()


def run(examples: int, steps: int, *, start: int, shrink: bool = True) -> None:
    """Run the machine from a seed."""
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    bounds = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=True,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(start)(type("Run", (Books,), {})), settings=bounds)


@pytest.mark.timeout(180)
def test_no_sequence_of_events_makes_the_books_differ_from_the_truth() -> None:
    number = int(os.environ.get("MATS_PROOF_SEED", "1"))
    print(f"seed={number} MATS_PROOF_SEED repeats it")
    run(20, 40, start=number)


@pytest.mark.proof
@pytest.mark.timeout(0)
def test_a_million_events_never_make_the_books_differ_from_the_truth() -> None:
    wanted = int(os.environ.get("MATS_PROOF_STEPS", "1000000"))
    number = int(os.environ.get("MATS_PROOF_SEED", "1"))
    began, Books.steps = time.monotonic(), 0
    while Books.steps < wanted:
        run(50, 100, start=number)
        rate = Books.steps / (time.monotonic() - began)
        print(
            f"seed={number} steps={Books.steps} of {wanted} rate={rate:.1f}/s next MATS_PROOF_SEED={number + 1}",
            flush=True,
        )
        number += 1
