"""Statements against a real ledger: what is found, what is booked, and that nothing is booked twice."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client

from portfolio.adjustments import approve_adjustment, book_adjustment, reject_adjustment, undo_adjustment
from portfolio.facts import BrokerPosition
from portfolio.flex import FlexReport, check_statement, import_statement, settle, store
from portfolio.flex.findings import Finding
from portfolio.flex.importer import Prepared, fold_slice, prepare
from portfolio.models import (
    Adjustment,
    CashBalance,
    Execution,
    FlexFinding,
    FlexStatement,
    Movement,
    Position,
)
from portfolio.services import allocate_strategy, ensure_account, fold_batch, open_account
from strategies.events import FillSnapshot
from strategies.exceptions import ConfigError, ConflictError, NotFoundError
from strategies.models import Strategy
from tests.properties.books_rig import books_hash
from tests.unit.portfolio.builders import ACCOUNT, contract, fill, owner_of
from tests.unit.portfolio.flex.builders import AT, Sheet, flex, ny

pytestmark = pytest.mark.django_db

OPENED = datetime(2026, 2, 27, 14, 0, tzinfo=UTC)
AAPL, MSFT = contract(), contract(272093, "MSFT")


@pytest.fixture(autouse=True)
def books() -> None:
    """Two strategies, 20,000 USD in the account, half of it handed out; nothing is held."""
    for symbol in ("ALPHA", "BETA"):
        Strategy.objects.create(symbol=symbol, name=symbol, filename=f"{symbol.lower()}.py")
    open_account(ACCOUNT, {"USD": Decimal(20_000)}, [], [], OPENED)
    for symbol in ("ALPHA", "BETA"):
        assert allocate_strategy(ACCOUNT, symbol, Decimal(5_000), "USD", OPENED)


def booked(*fills: FillSnapshot) -> None:
    """Fold these into the ledger."""
    fold_batch(ACCOUNT, fills, owner_of, fills[-1].executed_at + timedelta(seconds=1))


def imported(*sheets: Sheet, now: datetime = AT) -> FlexReport:
    """Import a file of these statements."""
    return import_statement(flex(*sheets), account_id=ACCOUNT, actor="anna", now=now)


def found(report: FlexReport) -> set[tuple[str, str, str]]:
    """The findings as kind, key and state."""
    return {(line.kind, line.key, line.state) for line in report.findings}


def cash(owner: str, currency: str = "USD") -> Decimal:
    """An owner's cash."""
    return CashBalance.objects.get(owner=owner, currency=currency).amount


def held(owner: str, con_id: int = AAPL.con_id) -> Decimal:
    """An owner's position."""
    row = Position.objects.filter(owner=owner, instrument_id=con_id).first()
    return row.quantity if row else Decimal(0)


def test_a_statement_that_agrees_finds_nothing() -> None:
    booked(fill(1, 100, "50.25", commission="1"), fill(2, -40, "51", commission="0.5", owner="BETA"))
    sheet = Sheet().trade(fill(1, 100, "50.25", commission="1"))
    sheet.trade(fill(2, -40, "51", commission="0.5", owner="BETA"))
    sheet.holding(AAPL.con_id, "AAPL", "60").ending("USD", "17013.5").ending("BASE_SUMMARY", "1")
    report = imported(sheet)
    assert report.findings == []
    assert report.counts["matched"] == 2


def test_all_seeded_discrepancies_are_found_and_nothing_else() -> None:
    true = [fill(number, 10, 50 + number, commission="1") for number in range(1, 11)]
    known = list(true)
    del known[0]  # 1: the books missed an execution
    known[1] = replace(true[2], commission=None)  # 3: its commission never came
    known[2] = replace(true[3], commission=Decimal("0.40"))  # 4: another commission
    known[3] = replace(true[4], price=Decimal("55.5"))  # 5: another price
    known[4] = replace(true[5], quantity=Decimal(11))  # 6: another quantity
    known[5] = replace(true[6], side="SLD")  # 7: the other side
    extra = fill(11, 5, 60, commission="1")  # 11: IB does not know it
    booked(*known, extra)
    sheet = Sheet()
    for one in true:
        sheet.trade(one)
    sheet.cash(101, "Dividends", "10.01", conid=str(AAPL.con_id), symbol="AAPL")
    sheet.cash(102, "Broker Interest Paid", "-3.10")
    sheet.cash(103, "Riddles", "7")
    sheet.holding(AAPL.con_id, "AAPL", "100").ending("USD", "14447.91")
    report = imported(sheet)

    ids = {number: fill(number).exec_id for number in range(1, 12)}
    assert found(report) == {
        ("missing_execution", ids[1], "resolved"),
        ("commission_unknown", ids[3], "resolved"),
        ("commission", ids[4], "resolved"),
        ("price", ids[5], "open"),
        ("quantity", ids[6], "open"),
        ("side", ids[7], "open"),
        ("not_in_statement", ids[11], "open"),
        ("dividend", "101", "resolved"),
        ("interest", "102", "resolved"),
        ("cash_row", "103", "open"),
        ("position", str(AAPL.con_id), "open"),
        ("cash", "USD", "open"),
    }
    assert report.counts["matched"] == 4
    position = next(line for line in report.findings if line.kind == "position")
    # One too many, 20 from the wrong side, 5 that IB does not know.
    assert position.details == {"ib": "100", "books": "86", "con_id": AAPL.con_id}


def test_what_was_settled_agrees_with_the_broker_to_the_cent() -> None:
    booked(fill(1, 100, 50), fill(2, 20, 50, commission="0.4"))
    sheet = Sheet().trade(fill(1, 100, 50, commission="1.05")).trade(fill(2, 20, 50, commission="0.55"))
    sheet.trade(fill(3, -30, 52, commission="1", owner="BETA")).cash(9, "Other Fees", "-10", description="Data")
    sheet.holding(AAPL.con_id, "AAPL", "90").ending("USD", "15547.4")
    report = imported(sheet)
    assert {line.state for line in report.findings} == {"resolved"}
    assert not [line for line in report.findings if line.kind in {"cash", "position"}]
    assert [held("ALPHA"), held("BETA")] == [120, -30]
    assert cash("ALPHA") == Decimal("-1001.60")
    assert cash("BETA") == Decimal(6559)
    assert report.changes.new_executions[0].exec_id == fill(3).exec_id


def test_the_same_file_again_does_nothing() -> None:
    sheet = Sheet().trade(fill(1, 10, 50, commission="1")).cash(5, "Deposits/Withdrawals", "100")
    first = imported(sheet)
    movements = Movement.objects.count()
    again = imported(sheet)
    assert (first.repeated, again.repeated) == (False, True)
    assert found(again) == found(first)
    assert Movement.objects.count() == movements
    assert FlexStatement.objects.count() == 1


def test_an_overlapping_statement_books_nothing_twice() -> None:
    booked(fill(2, 10, 50, commission="1"))
    sheet = Sheet().trade(fill(1, 10, 50, commission="1")).trade(fill(2, 10, 50, commission="1.5"), taxes="-0.2")
    sheet.cash(5, "Deposits/Withdrawals", "100").cash(6, "Other Fees", "-1")
    imported(sheet)
    movements = Movement.objects.count()
    sheet.last = "20260303"
    report = imported(sheet, now=AT + timedelta(days=1))
    assert Movement.objects.count() == movements
    assert report.findings == []
    assert report.counts["known"] == 2
    assert report.counts["matched"] == 2


def test_a_missing_execution_goes_to_the_strategy_of_its_reference_with_its_own_time() -> None:
    imported(Sheet().trade(fill(1, 10, 50, owner="BETA")).trade(replace(fill(2, 10, 50), order_ref="")))
    owners = dict(Execution.objects.values_list("exec_id", "owner"))
    assert owners == {fill(1).exec_id: "BETA", fill(2).exec_id: "Discretionary"}
    assert Execution.objects.get(exec_id=fill(1).exec_id).executed_at == fill(1).executed_at


def test_a_missing_correction_replaces_what_it_corrects() -> None:
    booked(fill(1, 10, 50, commission="1"))
    report = imported(Sheet().trade(fill(1, 8, 50, revision=2, commission="1")))
    assert found(report) == {("missing_execution", fill(1, revision=2).exec_id, "resolved")}
    assert held("ALPHA") == 8


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("trade_cancel", {"transactionType": "TradeCancel", "buySell": "BUY (Ca.)"}),
        ("other_trade", {"ibExecID": ""}),
        ("other_trade", {"transactionType": "DvpTrade"}),
        ("missing_execution", {"quantity": "-10"}),
        ("missing_execution", {"conid": ""}),
        ("missing_execution", {"assetCategory": "ODD"}),
        ("missing_execution", {"transactionType": "TradeCorrect"}),
        ("unreadable", {"quantity": "ten"}),
        ("book_trade", {"transactionType": "BookTrade", "notes": ""}),
    ],
)
def test_a_trade_that_is_not_understood_stays_open_and_moves_nothing(kind: str, changes: dict[str, str]) -> None:
    before = Movement.objects.count()
    report = imported(Sheet().trade(fill(1, 10, 50), **changes))
    assert [(line.kind, line.state) for line in report.findings] == [(kind, "open")]
    assert Movement.objects.count() == before


def test_a_bad_row_loses_only_itself() -> None:
    booked(fill(1, 10, 50, commission="1"))
    sheet = (
        Sheet()
        .trade(fill(1, 10, 50), tradePrice="x")
        .trade(fill(2, 10, 50), multiplier="100")
        .trade(fill(3, 10, 50))
        .cash(5, "Other Fees", "-1")
    )
    report = imported(sheet)
    assert found(report) == {
        ("unreadable", f"Trades:{fill(1).exec_id}", "open"),
        ("missing_execution", fill(2).exec_id, "open"),
        ("missing_execution", fill(3).exec_id, "resolved"),
        ("fee", "5", "resolved"),
    }
    assert held("ALPHA") == 20


def test_what_came_before_the_opening_is_in_the_opening_balance() -> None:
    early = fill(1, 10, 50, at=OPENED - timedelta(days=3))
    sheet = Sheet(first="20260220").trade(early).cash(5, "Dividends", "8", reportDate="20260226", dateTime="20260226")
    sheet.cash(6, "Other Fees", "-1", reportDate="20260227", dateTime="20260227;085900")
    report = imported(sheet)
    assert report.findings == []
    assert report.counts["before_opening"] == 3


def test_what_was_posted_on_the_day_of_the_opening_without_a_time_is_left_open() -> None:
    report = imported(Sheet(first="20260227").cash(5, "Other Fees", "-1", reportDate="20260227", dateTime="20260227"))
    assert found(report) == {("unclear", "5", "open")}


def _dividend(**changes: str) -> Sheet:
    sheet = Sheet(first="20260310", last="20260310")
    return sheet.cash(7, "Dividends", "30.00", conid=str(AAPL.con_id), symbol="AAPL", **changes)


@pytest.mark.parametrize("by_accrual", [True, False])
def test_a_dividend_belongs_to_who_held_when_it_went_ex(by_accrual: bool) -> None:
    booked(fill(1, 100, 10, commission="0"), fill(2, 50, 10, commission="0", owner="BETA"))
    late = datetime(2026, 3, 5, 15, 0, tzinfo=UTC)
    booked(fill(3, -100, 10, commission="0", at=late), fill(4, 300, 10, commission="0", owner="BETA", at=late))
    sheet = _dividend(**({} if by_accrual else {"exDate": "20260304"}))
    if by_accrual:
        sheet.add("ChangeInDividendAccruals", conid=str(AAPL.con_id), exDate="20260304", payDate="20260310")
    before = cash("ALPHA"), cash("BETA")
    report = imported(sheet, now=AT + timedelta(days=9))
    assert ("dividend", "7", "resolved") in found(report)
    assert [cash("ALPHA") - before[0], cash("BETA") - before[1]] == [20, 10]


def test_without_an_ex_date_a_dividend_goes_by_the_pay_date_and_its_reversal_takes_it_back() -> None:
    booked(fill(1, 100, 10, commission="0"), fill(2, 50, 10, commission="0", owner="BETA"))
    before = cash("ALPHA"), cash("BETA")
    sheet = _dividend().cash(8, "Dividends", "-30.00", conid=str(AAPL.con_id))
    sheet.cash(9, "Payment In Lieu Of Dividends", "30", conid=str(AAPL.con_id))
    sheet.cash(10, "Withholding Tax", "-4.50", conid=str(AAPL.con_id))
    report = imported(sheet, now=AT + timedelta(days=9))
    assert {line.kind for line in report.findings if line.state == "resolved"} == {"dividend", "tax"}
    assert [cash("ALPHA") - before[0], cash("BETA") - before[1]] == [17, Decimal("8.50")]


def test_a_dividend_on_an_unknown_contract_is_left_open() -> None:
    report = imported(Sheet().cash(7, "Dividends", "30", conid="4711"))
    assert found(report) == {("dividend", "7", "open")}
    assert "4711" in report.findings[0].resolution


@pytest.mark.parametrize(
    ("kind", "amount", "adjustment"),
    [
        ("Deposits/Withdrawals", "250", "deposit"),
        ("Deposits & Withdrawals", "-250", "withdrawal"),
        ("Broker Interest Received", "1.25", "interest"),
        ("Broker Interest Paid", "-1.25", "interest"),
        ("Other Fees", "-9.5", "fee"),
        ("Other Fees", "9.5", "fee"),
        ("Withholding Tax", "-0.3", "fee"),
    ],
)
def test_cash_of_nobody_in_particular_is_discretionarys(kind: str, amount: str, adjustment: str) -> None:
    before = cash("Discretionary")
    imported(Sheet().cash(5, kind, amount))
    row = Adjustment.objects.get(key="flex:5")
    assert (row.kind, row.state, row.source, row.actor) == (adjustment, "booked", "flex", "anna")
    assert cash("Discretionary") - before == Decimal(amount)


def test_a_commission_adjustment_goes_to_the_owner_of_the_trade() -> None:
    booked(fill(1, 10, 50, commission="1"))
    before = cash("ALPHA")
    sheet = Sheet().trade(fill(1, 10, 50, commission="1")).cash(5, "Commission Adjustments", "0.30", tradeID="91")
    imported(sheet)
    assert cash("ALPHA") - before == Decimal("0.30")


def test_a_commission_in_another_currency_than_booked_is_left_open() -> None:
    booked(fill(1, 10, 50, commission="1"))
    report = imported(Sheet().trade(fill(1, 10, 50, commission="1"), ibCommissionCurrency="EUR"))
    assert found(report) == {("commission", fill(1).exec_id, "open")}


def test_a_commission_that_changes_twice_is_followed_and_an_undo_is_respected() -> None:
    booked(fill(1, 10, 50, commission="1"))
    imported(Sheet().trade(fill(1), "-1.5", quantity="10", tradePrice="50"))
    assert cash("ALPHA") == Decimal("4498.5")
    imported(Sheet().trade(fill(1), "-1.2", quantity="10", tradePrice="50"))
    assert cash("ALPHA") == Decimal("4498.8")
    last = Adjustment.objects.order_by("-id").first()
    assert last is not None
    undo_adjustment(last.pk, actor="anna", source="page", reason="no", now=AT)
    report = imported(Sheet().trade(fill(1), "-1.21", quantity="10", tradePrice="50"))
    assert found(report) == {("commission", fill(1).exec_id, "open")}
    assert cash("ALPHA") == Decimal("4498.5")


def test_a_price_that_ib_shortened_is_the_same() -> None:
    booked(fill(1, 10, "50.123456", commission="1.000045"))
    report = imported(Sheet().trade(fill(1, 10, "50.123456"), "-1.0000", tradePrice="50.1235"))
    assert report.findings == []


def test_what_was_booked_by_hand_is_proposed_and_a_rejection_holds() -> None:
    details = {"owner": "Discretionary", "currency": "USD", "amount": "250"}
    book_adjustment(
        ACCOUNT, "deposit", details, actor="anna", source="page", effective_at=OPENED + timedelta(days=2), now=AT
    )
    before = cash("Discretionary")
    report = imported(Sheet().cash(5, "Deposits/Withdrawals", "250.00"))
    assert found(report) == {("deposit", "5", "open")}
    assert "by hand" in report.findings[0].resolution
    reject_adjustment(Adjustment.objects.get(key="flex:5").pk, actor="anna", source="page", reason="twin", now=AT)
    sheet = Sheet(last="20260303").cash(5, "Deposits/Withdrawals", "250", dateTime="20260302", reportDate="20260302")
    assert imported(sheet, now=AT + timedelta(days=1)).findings == []
    assert cash("Discretionary") == before
    assert FlexFinding.objects.get(key="5").state == "resolved"


def test_a_split_is_proposed_and_booked_when_it_is_approved() -> None:
    booked(fill(1, 100, 40, commission="0"))
    sheet = Sheet().add(
        "CorporateActions",
        conid=str(AAPL.con_id),
        symbol="AAPL",
        assetCategory="STK",
        type="FS",
        actionDescription="AAPL(US0378331005) SPLIT 4 FOR 1 (AAPL, APPLE INC, US0378331005)",
        quantity="300",
        dateTime="20260302;202500",
        reportDate="20260302",
        transactionID="77",
        actionID="7",
    )
    report = imported(sheet.holding(AAPL.con_id, "AAPL", "400"))
    assert found(report) == {("corporate_action", "77", "open"), ("position", str(AAPL.con_id), "open")}
    assert held("ALPHA") == 100
    row = Adjustment.objects.get(key="flex:77")
    assert (row.kind, row.state) == ("split", "proposed")
    approve_adjustment(row.pk, actor="anna", source="page", now=AT)
    assert held("ALPHA") == 400


@pytest.mark.parametrize(
    ("kind", "rows", "proposed"),
    [
        ("RS", [("265598", "-100"), ("9001", "10")], "symbol_change"),
        ("IC", [("265598", "-100"), ("9001", "100")], "symbol_change"),
        ("IC", [("265598", "-100"), ("9001", "90")], None),
        ("TC", [("265598", "-100"), ("9001", "50")], None),
        ("SO", [("9001", "10")], None),
    ],
)
def test_corporate_actions_without_a_choice_are_proposed_others_are_left_open(
    kind: str, rows: list[tuple[str, str]], proposed: str | None
) -> None:
    booked(fill(1, 100, 40, commission="0"))
    sheet = Sheet()
    for number, (con_id, quantity) in enumerate(rows):
        sheet.add(
            "CorporateActions",
            conid=con_id,
            symbol="AAPL" if con_id == "265598" else "NEW",
            assetCategory="STK",
            type=kind,
            actionDescription="AAPL SPLIT 1 FOR 10" if kind == "RS" else "AAPL becomes NEW",
            quantity=quantity,
            dateTime="20260302;202500",
            transactionID=f"7{number}",
            actionID="7",
        )
    report = imported(sheet)
    (line,) = report.findings
    assert (line.kind, line.state) == ("corporate_action", "open")
    row = Adjustment.objects.filter(key="flex:70").first()
    assert (row.kind if row else None) == proposed
    if row is not None:
        approve_adjustment(row.pk, actor="anna", source="page", now=AT)
        assert [held("ALPHA"), held("ALPHA", 9001)] == [0, 10 if kind == "RS" else 100]


OPTION = contract(
    700,
    "AAPL",
    sec_type="OPT",
    multiplier=Decimal(100),
    local_symbol="AAPL  260302C00050000",
    expiry="20260302",
    strike=Decimal(50),
    right="C",
)


def _option_row(kind: str, quantity: str, **changes: str) -> dict[str, str]:
    values = {
        "assetCategory": "OPT",
        "conid": "700",
        "symbol": "AAPL  260302C00050000",
        "underlyingConid": str(AAPL.con_id),
        "underlyingSymbol": "AAPL",
        "multiplier": "100",
        "strike": "50",
        "expiry": "20260302",
        "putCall": "C",
        "date": "20260302",
        "transactionType": kind,
        "quantity": quantity,
        "tradePrice": "0",
        "tradeID": "31",
    }
    return {**values, **changes}


@pytest.mark.parametrize("told", ["both", "section", "trades"])
def test_an_assignment_is_proposed_once_however_it_is_told(told: str) -> None:
    short = fill(1, -2, 3, of=OPTION, commission="0", at=datetime(2026, 3, 2, 15, tzinfo=UTC))
    booked(short, fill(2, 1, 50, commission="0"))
    sheet = Sheet().trade(short).trade(fill(2, 1, 50, commission="0"))
    if told != "trades":
        sheet.add("OptionEAE", **_option_row("Assignment", "2"))
        sheet.add(
            "OptionEAE", **_option_row("Sell", "-200", assetCategory="STK", conid=str(AAPL.con_id), multiplier="1")
        )
    if told != "section":
        end = replace(
            short, side="BOT", price=Decimal(0), exec_id="", executed_at=datetime(2026, 3, 2, 21, 20, tzinfo=UTC)
        )
        common = {"transactionType": "BookTrade", "notes": "A;C", "underlyingConid": str(AAPL.con_id), "tradeID": "31"}
        sheet.trade(end, **common)
        stock = replace(fill(3, -200, 50), exec_id="", executed_at=end.executed_at)
        sheet.trade(stock, transactionType="BookTrade", notes="A", tradeID="32")
    report = imported(sheet)
    assert found(report) == {("exercise", "exercise:700:20260302", "open")}
    row = Adjustment.objects.get(key="flex:exercise:700:20260302")
    assert (row.kind, row.state, row.details["quantity"]) == ("exercise", "proposed", "2")
    approve_adjustment(row.pk, actor="anna", source="page", now=AT)
    assert [held("ALPHA", 700), held("ALPHA")] == [0, -199]


def test_an_expiry_is_proposed() -> None:
    booked(fill(1, 2, 3, of=OPTION, commission="0"))
    report = imported(
        Sheet().trade(fill(1, 2, 3, of=OPTION, commission="0")).add("OptionEAE", **_option_row("Expiration", "-2"))
    )
    assert found(report) == {("expiry", "expiry:700:20260302", "open")}
    approve_adjustment(Adjustment.objects.get().pk, actor="anna", source="page", now=AT)
    assert held("ALPHA", 700) == 0


def test_the_books_are_compared_as_they_were_on_the_last_day() -> None:
    booked(fill(1, 10, 50, commission="1"))
    evening = fill(2, 5, 50, commission="1", at=datetime(2026, 3, 2, 23, 30, tzinfo=UTC))
    booked(evening, fill(3, 7, 60, commission="1", at=AT))
    book_adjustment(
        ACCOUNT,
        "deposit",
        {"owner": "ALPHA", "currency": "USD", "amount": "77"},
        actor="anna",
        source="page",
        effective_at=AT,
        now=AT,
    )
    agreed = Sheet().trade(fill(1, 10, 50, commission="1")).holding(AAPL.con_id, "AAPL", "10").ending("USD", "19499")
    assert imported(agreed, now=AT + timedelta(hours=1)).findings == []
    with_evening = Sheet().trade(fill(1, 10, 50, commission="1")).trade(evening)
    with_evening.holding(AAPL.con_id, "AAPL", "15").ending("USD", "19248")
    assert imported(with_evening, now=AT + timedelta(hours=1)).findings == []


def test_a_dividend_that_was_paid_later_is_not_in_the_cash_of_an_earlier_statement() -> None:
    booked(fill(1, 100, 10, commission="0"))
    imported(_dividend(exDate="20260302"), now=AT + timedelta(days=9))
    late = Sheet().trade(fill(1, 100, 10, commission="0")).ending("USD", "19000")
    assert imported(late, now=AT + timedelta(days=10)).findings == []


def test_currency_pairs_and_futures_are_compared_in_the_brokers_terms() -> None:
    pair = contract(12087792, "EUR", sec_type="CASH", local_symbol="EUR.USD")
    future = contract(495512552, "ES", sec_type="FUT", multiplier=Decimal(50), local_symbol="ESH6")
    booked(fill(1, 1000, "1.10", of=pair, commission="2"), fill(2, 1, 6000, of=future, commission="2"))
    sheet = Sheet().trade(fill(1, 1000, "1.10", of=pair, commission="2"), symbol="EUR.USD")
    sheet.trade(fill(2, 1, 6000, of=future, commission="2"), symbol="ESH6", underlyingSymbol="ES")
    sheet.holding(495512552, "ESH6", "1", assetCategory="FUT", multiplier="50", markPrice="6010")
    sheet.ending("EUR", "1000").ending("USD", "19396")  # 20000 − 1100 − 4 + 500 of daily gain
    assert imported(sheet).findings == []


def test_a_missing_currency_pair_is_booked_under_its_own_ticker() -> None:
    pair = contract(12087792, "EUR", sec_type="CASH")
    imported(Sheet().trade(fill(1, 1000, "1.10", of=pair), symbol="EUR.USD", listingExchange="IDEALPRO"))
    row = Execution.objects.select_related("instrument").get()
    assert (row.instrument.symbol, row.instrument.local_symbol, row.instrument.sec_type) == ("EUR", "EUR.USD", "CASH")


def test_several_statements_of_one_file_are_one_import() -> None:
    first, second = Sheet().trade(fill(1, 10, 50)), Sheet("20260303", "20260303")
    second.trade(fill(2, 10, 50, at=datetime(2026, 3, 3, 15, tzinfo=UTC))).holding(AAPL.con_id, "AAPL", "20")
    first.holding(AAPL.con_id, "AAPL", "10")
    report = imported(first, second, now=AT + timedelta(days=1))
    assert {line.kind for line in report.findings} == {"missing_execution"}
    assert held("ALPHA") == 20
    statement = FlexStatement.objects.get()
    assert (str(statement.from_date), str(statement.to_date)) == ("2026-03-02", "2026-03-03")


def test_a_file_of_another_account_books_and_keeps_nothing() -> None:
    before, kept = Movement.objects.count(), set(store.flex_home().iterdir())
    data = flex(Sheet().cash(5, "Other Fees", "-1"), Sheet(account="U999").cash(6, "Other Fees", "-1"))
    with pytest.raises(ConfigError, match="U999"):
        import_statement(data, account_id=ACCOUNT, actor="anna", now=AT)
    assert Movement.objects.count() == before
    assert set(store.flex_home().iterdir()) == kept


def test_a_crash_in_the_middle_leaves_nothing_and_the_import_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = Sheet().trade(fill(1, 10, 50)).cash(5, "Other Fees", "-1").cash(6, "Other Fees", "-2")
    before = Movement.objects.count()
    book: Callable[..., object] = book_adjustment

    def crash(*args: object, **values: object) -> object:
        if values["key"] == "flex:6":
            raise RuntimeError("killed")
        return book(*args, **values)

    with monkeypatch.context() as patch:
        patch.setattr(settle, "book_adjustment", crash)
        with pytest.raises(RuntimeError, match="killed"), transaction.atomic():
            imported(sheet)
    assert (Movement.objects.count(), FlexStatement.objects.count()) == (before, 0)
    assert {line.state for line in imported(sheet).findings} == {"resolved"}


def test_a_file_is_kept_for_its_owner_alone_and_read_by_its_digest() -> None:
    digest = store.keep(flex(Sheet().cash(5, "Other Fees", "-1")))
    path = store.flex_home() / f"{digest}.xml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert import_statement(digest, account_id=ACCOUNT, actor="anna", now=AT).counts["booked"] == 1
    path.write_bytes(b"<changed/>")
    with pytest.raises(ConfigError, match="changed"):
        import_statement(digest, account_id=ACCOUNT, actor="anna", now=AT)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    for source in ("0" * 64, tmp_path / "none.xml"):
        with pytest.raises(NotFoundError):
            import_statement(source, account_id=ACCOUNT, actor="anna", now=AT)
    with pytest.raises(ConfigError, match="SHA-256"):
        import_statement("../../etc/passwd", account_id=ACCOUNT, actor="anna", now=AT)


def test_books_that_do_not_exist_or_are_not_open_take_nothing() -> None:
    with pytest.raises(NotFoundError):
        import_statement(flex(Sheet(account="U1")), account_id="U1", actor="anna", now=AT)
    ensure_account("U1")
    with pytest.raises(ConflictError):
        import_statement(flex(Sheet(account="U1")), account_id="U1", actor="anna", now=AT)


def test_a_check_tells_what_an_import_would_do_and_books_nothing() -> None:
    booked(fill(2, 10, 50))
    sheet = Sheet().trade(fill(1, 10, 50)).trade(fill(2, 10, 50, commission="1")).cash(5, "Other Fees", "-1")
    before = Movement.objects.count()
    report = check_statement(flex(sheet), account_id=ACCOUNT)
    assert [line.resolution for line in report.findings] == [
        "An import would book the execution.",
        "An import would fill in the commission.",
        "An import would book a fee.",
    ]
    assert (Movement.objects.count(), FlexStatement.objects.count()) == (before, 0)


def test_a_report_becomes_json_with_its_open_findings() -> None:
    report = imported(Sheet().cash(5, "Riddles", "1"))
    told = report.as_json()
    assert told["open"][0]["key"] == "5"
    assert "1 open" in told["summary"]


def test_an_opening_position_is_not_missed() -> None:
    open_account("U2", {"USD": Decimal(0)}, [BrokerPosition(MSFT, Decimal(5), Decimal(10))], [], OPENED)
    sheet = Sheet(account="U2").holding(MSFT.con_id, "MSFT", "5").ending("USD", "0")
    assert import_statement(flex(sheet), account_id="U2", actor="anna", now=AT).findings == []


@pytest.mark.parametrize("name", ["flexstatement", "flexfinding"])
def test_statements_and_findings_are_listed_and_cannot_be_changed(client: Client, name: str) -> None:
    imported(Sheet().cash(5, "Riddles", "1"))
    client.force_login(User.objects.create_superuser("root", password="x"))
    assert client.get(f"/admin/portfolio/{name}/").status_code == 200
    assert client.get(f"/admin/portfolio/{name}/add/").status_code == 403


def test_times_of_the_builder_are_new_yorks() -> None:
    assert ny(datetime(2026, 3, 2, 15, 0, tzinfo=UTC)) == "20260302;100000"


class TestSlices:
    """Seven executions, folded three at a time."""

    @pytest.fixture
    def sheet(self) -> Sheet:
        sheet = Sheet()
        for number in range(1, 8):
            sheet.trade(fill(number, 10, 50, commission="1"))
        return sheet.cash(2, "Other Fees", "-10")

    def take(self, prepared: Prepared, part: list[Finding]) -> None:
        _, outcomes = fold_slice(prepared, part, actor="anna", now=AT)
        prepared.folded += outcomes

    def finish(self, prepared: Prepared) -> FlexReport:
        return import_statement(prepared, account_id=ACCOUNT, actor="anna", now=AT)

    def test_make_what_one_transaction_makes(self, sheet: Sheet) -> None:
        with transaction.atomic():
            whole = imported(sheet)
            books = books_hash(journal=False)
            transaction.set_rollback(True)
        prepared = prepare(flex(sheet), account_id=ACCOUNT)
        sizes = []
        for part in prepared.slices(3):
            sizes.append(len(part))
            self.take(prepared, part)
        sliced = self.finish(prepared)
        assert sizes == [3, 3, 1]
        assert books_hash(journal=False) == books
        assert {name: value for name, value in sliced.counts.items() if value} == {
            name: value for name, value in whole.counts.items() if value
        }
        assert found(sliced) == found(whole)

    def test_that_a_crash_cut_off_are_taken_up_where_it_stopped(self, sheet: Sheet) -> None:
        prepared = prepare(flex(sheet), account_id=ACCOUNT)
        self.take(prepared, next(prepared.slices(3)))
        again = prepare(flex(sheet), account_id=ACCOUNT)
        assert len(again.foldable) == 4
        for part in again.slices(3):
            self.take(again, part)
        report = self.finish(again)
        assert (held("ALPHA"), report.counts["matched"], report.counts["booked"]) == (Decimal(70), 3, 5)
        assert self.finish(prepare(flex(sheet), account_id=ACCOUNT)).repeated

    def test_meet_live_fills_between_them(self, sheet: Sheet) -> None:
        prepared = prepare(flex(sheet), account_id=ACCOUNT)
        first, second, third = prepared.slices(3)
        self.take(prepared, first)
        booked(fill(5, 10, 50), fill(20, 1, 51))
        self.take(prepared, second)
        self.take(prepared, third)
        self.finish(prepared)
        assert held("ALPHA") == 71
        assert Execution.objects.filter(commission=1).count() == 7

    def test_are_none_when_the_file_is_small(self, sheet: Sheet) -> None:
        assert list(prepare(flex(sheet), account_id=ACCOUNT).slices(500)) == []

    def test_leave_what_the_books_refuse_to_the_end(self, sheet: Sheet) -> None:
        sheet.trade(fill(8, 10, "-1"))
        prepared = prepare(flex(sheet), account_id=ACCOUNT)
        for part in prepared.slices(3):
            self.take(prepared, part)
        report = self.finish(prepared)
        assert held("ALPHA") == 70
        assert [line.key for line in report.open_findings] == [fill(8).exec_id]
