"""What may explain a break is looked up, named with its ids, and never guessed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from portfolio import causes
from portfolio.adjustments import propose_adjustment
from portfolio.causes import BrokerDay
from portfolio.ledger.reconciliation import Difference
from portfolio.parking import park
from portfolio.services import (
    compare_positions,
    ensure_account,
    fold_batch,
    open_account,
)
from strategies.exceptions import LedgerError
from strategies.models import DISCRETIONARY
from tests.unit.portfolio.builders import ACCOUNT, NOW, contract, fill, owner_of

pytestmark = pytest.mark.django_db

CON_ID = 265598


@pytest.fixture(autouse=True)
def _books() -> None:
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(1000)}, [], [], NOW)
    fold_batch(ACCOUNT, [fill(1, 60, 5, commission="1")], owner_of, NOW)


def position_causes(broker: int, day: BrokerDay | None = None, ledger: int = 60) -> dict[str, list[str]]:
    found = causes.of_position(ACCOUNT, CON_ID, Decimal(broker), Decimal(ledger), day, NOW)
    assert all(cause.text and cause.action for cause in found)
    return {cause.kind: cause.ids for cause in found}


def cash_causes(amount: str, day: BrokerDay | None = None) -> dict[str, list[str]]:
    found = causes.of_cash(ACCOUNT, "USD", Decimal(amount), Decimal("0.01"), day)
    return {cause.kind: cause.ids for cause in found}


def propose(kind: str, details: dict[str, Any], key: str, at: datetime = NOW) -> int:
    made = propose_adjustment(ACCOUNT, kind, details, actor="op", source="page", key=key, effective_at=at, now=NOW)
    return made.adjustment_id


def test_nothing_found_is_said_and_nothing_guessed() -> None:
    assert position_causes(61) == {"unexplained": []}
    assert cash_causes("17") == {"unexplained": []}


def test_parked_report_of_that_contract_is_named_and_of_another_is_not() -> None:
    park(fill(2), LedgerError("No price."), NOW)
    park(fill(3, of=contract(5, "MSFT")), LedgerError("No price."), NOW)
    assert position_causes(61) == {"parked_report": [f"fill:{fill(2).exec_id}"]}
    assert len(cash_causes("17")["parked_report"]) == 2


def test_execution_that_only_ib_has_is_missing_unless_it_is_parked() -> None:
    first, second = fill(2).exec_id, fill(3).exec_id
    day = BrokerDay({first: CON_ID, second: CON_ID, "other": 5}, NOW, frozenset({first, second, "other"}))
    assert position_causes(61, day) == {"missing_execution": [first, second]}
    park(fill(2), LedgerError("No price."), NOW)
    assert position_causes(61, day)["missing_execution"] == [second]


def test_execution_that_only_the_books_have_is_unconfirmed() -> None:
    day = BrokerDay({}, NOW, unconfirmed=frozenset({fill(1).exec_id}))
    assert position_causes(7, day) == {"unconfirmed_execution": [fill(1).exec_id]}
    assert cash_causes("300", day) == {"unconfirmed_execution": [fill(1).exec_id]}


def test_manual_trades_of_the_day_are_named_and_those_with_a_reference_are_not() -> None:
    by_hand = replace(fill(2, 5, owner=""), order_ref="")
    fold_batch(ACCOUNT, [by_hand, fill(3, 1)], lambda one: owner_of(one) if one.order_ref else DISCRETIONARY, NOW)
    assert position_causes(61)["manual_trade"] == [by_hand.exec_id]


@pytest.mark.parametrize(("broker", "ratio"), [(120, ["2", "1"]), (6, ["1", "10"]), (90, ["3", "2"])])
def test_exact_ratio_is_named_as_a_possible_split(broker: int, ratio: list[str]) -> None:
    assert position_causes(broker)["split_ratio"] == [str(CON_ID), *ratio]


def test_proposal_for_the_contract_is_named_until_it_is_settled() -> None:
    number = propose("split", {"con_id": CON_ID, "numerator": 2, "denominator": 1}, "flex:1")
    assert position_causes(120)["proposed_adjustment"] == [str(number)]


def test_proposal_over_exactly_the_missing_cash_is_named_and_another_is_not() -> None:
    number = propose("deposit", {"owner": DISCRETIONARY, "currency": "USD", "amount": "250"}, "flex:2")
    propose("deposit", {"owner": DISCRETIONARY, "currency": "EUR", "amount": "250"}, "flex:3")
    assert cash_causes("250")["proposed_adjustment"] == [str(number)]
    assert cash_causes("251") == {"unexplained": []}


def test_execution_without_commission_may_explain_cash() -> None:
    fold_batch(ACCOUNT, [fill(2)], owner_of, NOW)
    assert cash_causes("1") == {"commission_unknown": [fill(2).exec_id]}


def test_break_keeps_its_causes_and_tells_when_they_change() -> None:
    [opened] = compare_positions(ACCOUNT, {CON_ID: Decimal(61)}, NOW)
    assert [item["kind"] for item in opened.cause["items"]] == ["unexplained"]
    park(fill(2), LedgerError("No price."), NOW)
    [changed] = compare_positions(ACCOUNT, {CON_ID: Decimal(61)}, NOW)
    assert (changed.id, changed.state) == (opened.id, "open")
    assert changed.cause["items"][0]["kind"] == "parked_report"
    assert compare_positions(ACCOUNT, {CON_ID: Decimal(61)}, NOW) == []


def test_causes_of_many_contracts_are_those_of_each_alone() -> None:
    other = contract(5, "MSFT")
    park(fill(2), LedgerError("No price."), NOW)
    fold_batch(ACCOUNT, [replace(fill(6, of=other), order_ref="", client_id=0)], lambda _: DISCRETIONARY, NOW)
    propose("split", {"con_id": CON_ID, "numerator": 2, "denominator": 1}, "op:split")
    missing = fill(9, of=other).exec_id
    day = BrokerDay({missing: 5}, NOW, frozenset([missing]), frozenset([fill(1).exec_id]))
    pairs = [Difference(CON_ID, Decimal(120), Decimal(60)), Difference(5, Decimal(7), Decimal(10))]
    together = causes.of_positions(ACCOUNT, pairs, day, NOW)
    for one in pairs:
        alone = causes.of_position(ACCOUNT, one.con_id, one.broker_quantity, one.ledger_quantity, day, NOW)
        assert together[one.con_id] == alone
    kinds = {con_id: {cause.kind for cause in found} for con_id, found in together.items()}
    assert kinds[CON_ID] == {"parked_report", "unconfirmed_execution", "proposed_adjustment", "split_ratio"}
    assert kinds[5] == {"missing_execution", "manual_trade"}
