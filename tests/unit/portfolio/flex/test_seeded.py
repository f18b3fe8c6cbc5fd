"""A generated statement with known defects against a real ledger: all of them are found, and only they."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from portfolio.flex import import_statement
from portfolio.models import Execution, Movement
from portfolio.services import fold_batch, open_account
from strategies.events import FillSnapshot
from strategies.models import Strategy
from tests.unit.portfolio.builders import ACCOUNT, contract, fill, owner_of
from tests.unit.portfolio.flex.builders import AT, Sheet, flex

pytestmark = pytest.mark.django_db

STOCKS = [contract(), contract(272093, "MSFT"), contract(4391, "AMD")]
SIZE = 60
Change = Callable[[FillSnapshot], FillSnapshot | None]
DEFECTS: dict[str, Change] = {
    "missing_execution": lambda true: None,
    "commission_unknown": lambda true: replace(true, commission=None),
    "commission": lambda true: replace(true, commission=(true.commission or Decimal(0)) + Decimal("0.07")),
    "price": lambda true: replace(true, price=true.price + Decimal("0.01")),
    "quantity": lambda true: replace(true, quantity=true.quantity + 1),
    "side": lambda true: replace(true, side="SLD" if true.side == "BOT" else "BOT"),
    "contract": lambda true: replace(true, contract=next(one for one in STOCKS if one != true.contract)),
}
SETTLED = {"missing_execution", "commission_unknown", "commission"}


def _true(number: int, chance: random.Random) -> FillSnapshot:
    quantity = chance.choice([-1, 1]) * chance.randint(1, 500)
    price = Decimal(chance.randint(100, 90_000)) / 100
    commission = f"{chance.randint(35, 900) / 100:.2f}"
    owner = chance.choice(["ALPHA", "BETA", "GAMMA"])
    return fill(number, quantity, str(price), of=chance.choice(STOCKS), owner=owner, commission=commission)


def _cash_of(true: FillSnapshot) -> Decimal:
    sign = -1 if true.side == "BOT" else 1
    return sign * true.quantity * true.price - (true.commission or 0)


@pytest.mark.parametrize("seed", range(6))
def test_every_seeded_defect_is_found_and_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    for symbol in ("ALPHA", "BETA", "GAMMA"):
        Strategy.objects.create(symbol=symbol, name=symbol, filename=f"{symbol.lower()}.py")
    open_account(ACCOUNT, {"USD": Decimal(1_000_000)}, [], [], datetime(2026, 2, 27, 14, 0, tzinfo=UTC))
    settled_only = seed % 2 == 0  # then the books must agree with the broker to the cent afterwards
    kinds = sorted(SETTLED) if settled_only else sorted(DEFECTS)
    sheet, known, expected = Sheet(), [], set()
    held = {one.con_id: Decimal(0) for one in STOCKS}
    cash = Decimal(1_000_000)
    for number in range(1, SIZE + 1):
        true = _true(number, chance)
        sheet.trade(true)
        cash += _cash_of(true)
        held[true.contract.con_id] += true.quantity if true.side == "BOT" else -true.quantity
        booked: FillSnapshot | None = true
        if chance.random() < 0.4:
            kind = chance.choice(kinds)
            booked = DEFECTS[kind](true)
            expected.add((kind, true.exec_id, "resolved" if kind in SETTLED else "open"))
        if booked is not None:
            known.append(booked)
    chance.shuffle(known)
    fold_batch(ACCOUNT, known, owner_of, AT)
    if settled_only:
        for one in STOCKS:
            sheet.holding(one.con_id, one.symbol, f"{held[one.con_id]:f}")
        sheet.ending("USD", f"{cash:f}")
    chance.shuffle(sheet.rows["Trades"])

    report = import_statement(flex(sheet), account_id=ACCOUNT, actor="anna", now=AT)

    assert {(line.kind, line.key, line.state) for line in report.findings} == expected
    assert report.counts["matched"] == SIZE - len(expected)
    assert Execution.objects.count() == SIZE
    movements = Movement.objects.count()
    sheet.extra = "<Again/>"  # another file that says the same
    again = import_statement(flex(sheet), account_id=ACCOUNT, actor="anna", now=AT)
    assert {(line.kind, line.key, line.state) for line in again.findings} == {
        one for one in expected if one[2] == "open"
    }
    assert Movement.objects.count() == movements
