"""What the reader of Flex files takes, and what it refuses."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio.flex.fields import RowError, to_moment, to_number
from portfolio.flex.parse import LARGEST_FILE, parse_flex
from strategies.exceptions import ConfigError
from tests.unit.portfolio.builders import ACCOUNT, fill
from tests.unit.portfolio.flex.builders import Sheet, flex

BOMB = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;&x;&x;&x;&x;">]><a>&y;</a>"""
FOREIGN = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>"""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "flex_empty"),
        (b"  \n", "flex_empty"),
        (b'"ClientAccountID","CurrencyPrimary"\n"DU1000001","USD"', "flex_csv"),
        (b"\x89PNG\r\n\x00\x00", "flex_not_xml"),
        (b"<!DOCTYPE html><html><body>Please log in</body></html>", "flex_html"),
        (b"<html><body>500</body></html>", "flex_html"),
        (b"<FlexQueryResponse><FlexStatements>", "flex_not_xml"),
        (b"<other/>", "flex_not_statement"),
        (b'<FlexQueryResponse type="TCF"><FlexStatements/></FlexQueryResponse>', "flex_not_statement"),
        (b'<FlexQueryResponse type="AF"><FlexStatements count="0"/></FlexQueryResponse>', "flex_not_statement"),
        (BOMB, "flex_unsafe"),
        (FOREIGN, "flex_unsafe"),
        (b"<!DOCTYPE FlexQueryResponse []><FlexQueryResponse/>", "flex_unsafe"),
        (b"<FlexStatementResponse><ErrorCode>1012</ErrorCode></FlexStatementResponse>", "flex_error_response"),
        (flex(Sheet(first="20260303", last="20260302")), "flex_bad_statement"),
        (flex(Sheet(first="03/02/2026")), "flex_bad_statement"),
        (flex(Sheet(account="")), "flex_bad_statement"),
    ],
)
def test_what_is_no_statement_is_refused_and_named(data: bytes, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_flex(data, ACCOUNT)
    assert caught.value.code == code


def test_a_file_beyond_the_limit_is_not_parsed() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_flex(b"<" * (LARGEST_FILE + 1), ACCOUNT)
    assert caught.value.code == "flex_too_large"


@pytest.mark.parametrize(
    "data",
    [
        flex(Sheet(account="U7654321")),
        flex(Sheet(), Sheet(account="U7654321")),
        flex(Sheet().add("OpenPositions", accountId="U7654321", conid="1", position="5")),
        flex(Sheet(extra='<Unheard><Row accountId="U7654321"/></Unheard>')),
    ],
)
def test_a_file_with_anything_of_another_account_is_refused_as_a_whole(data: bytes) -> None:
    with pytest.raises(ConfigError, match="U7654321") as caught:
        parse_flex(data, ACCOUNT)
    assert caught.value.code == "flex_other_account"


def test_an_execution_is_read_with_its_time_in_utc() -> None:
    sheet = Sheet().trade(fill(1, -100, "50.25", commission="1.25"))
    (statement,) = parse_flex(flex(sheet), ACCOUNT).statements
    (row,) = statement.trades
    assert (row.exec_id, row.side, row.quantity, row.price) == (
        "0000e0d5.00000001.01.01",
        "SELL",
        Decimal(-100),
        Decimal("50.25"),
    )
    assert row.commission == Decimal("-1.25")
    assert row.executed_at == datetime(2026, 3, 2, 15, 0, 1, tzinfo=UTC)
    assert statement.from_date == date(2026, 3, 2)


def test_orders_sums_lots_and_unknown_sections_are_passed_over_and_counted() -> None:
    sheet = Sheet(extra="<Unheard><Row a='1'/></Unheard>").trade(fill(1), levelOfDetail="ORDER")
    sheet.holding(1, "A", "5", levelOfDetail="LOT").cash(1, "Dividends", "5", levelOfDetail="SUMMARY")
    (statement,) = parse_flex(flex(sheet), ACCOUNT).statements
    assert (statement.trades, statement.positions, statement.cash, statement.bad) == ([], [], [], [])
    assert dict(statement.passed_over) == {
        "Unheard": 1,
        "Trades ORDER": 1,
        "OpenPositions LOT": 1,
        "CashTransactions SUMMARY": 1,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quantity", "NaN"),
        ("quantity", "1_000"),
        ("quantity", ""),
        ("tradePrice", "1e400"),
        ("tradePrice", "12,34"),
        ("dateTime", "03/02/2026;100000"),
        ("dateTime", "20260230;100000"),
        ("dateTime", "20260302"),
        ("dateTime", "20260302;256100"),
        ("ibCommission", "one"),
        ("ibCommissionCurrency", "usd"),
        ("conid", "-5"),
        ("multiplier", "0"),
        ("buySell", ""),
    ],
)
def test_a_row_that_cannot_be_read_is_kept_apart_and_the_others_are_read(name: str, value: str) -> None:
    sheet = Sheet().trade(fill(1)).trade(fill(2), **{name: value}).trade(fill(3))
    (statement,) = parse_flex(flex(sheet), ACCOUNT).statements
    assert [row.exec_id[9:17] for row in statement.trades] == ["00000001", "00000003"]
    (bad,) = statement.bad
    assert (bad.section, bad.number, name in bad.text) == ("Trades", 2, True)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("20260302;143000", datetime(2026, 3, 2, 19, 30, tzinfo=UTC)),
        ("20260702,143000", datetime(2026, 7, 2, 18, 30, tzinfo=UTC)),
        ("2026-03-02;14:30:00", datetime(2026, 3, 2, 19, 30, tzinfo=UTC)),
        ("2026-03-02 14:30:00", datetime(2026, 3, 2, 19, 30, tzinfo=UTC)),
        ("2026-03-02T14:30:00Z", datetime(2026, 3, 2, 14, 30, tzinfo=UTC)),
        ("2026-03-02, 14:30:00 EST", datetime(2026, 3, 2, 19, 30, tzinfo=UTC)),
        ("2026-03-02T14:30:00+01:00", datetime(2026, 3, 2, 13, 30, tzinfo=UTC)),
    ],
)
def test_times_are_new_yorks_unless_they_say_otherwise(text: str, moment: datetime) -> None:
    assert to_moment(text, "dateTime") == (moment, True)


@given(st.text(max_size=30))
def test_any_text_is_a_number_a_date_or_an_error(text: str) -> None:
    for read in (to_number, to_moment):
        with suppress(RowError):
            read(text, "field")


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6))
def test_a_number_is_read_as_it_is_written(value: Decimal) -> None:
    assert to_number(f"{value:,f}", "amount") == value == to_number(f"{value:f}", "amount")


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    for whole in (data, b"<FlexQueryResponse type='AF'>" + data):
        with pytest.raises(ConfigError):
            parse_flex(whole, ACCOUNT)
