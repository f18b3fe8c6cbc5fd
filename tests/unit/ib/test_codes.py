"""What an error code may conclude about an order."""

from __future__ import annotations

import pytest

from trading.ib import codes
from trading.ib.codes import OrderVerdict


@pytest.mark.parametrize("code", [399, 404, 2109, 2137, 10349, 2104, 2158, 2177])
def test_notices_say_nothing_about_the_order(code: int) -> None:
    assert codes.order_verdict(code) is OrderVerdict.NOTICE


@pytest.mark.parametrize("code", [104, 135, 136, 161, 10147, 10148, 10149, 77777])
def test_unclear_and_unknown_codes_ask(code: int) -> None:
    assert codes.order_verdict(code) is OrderVerdict.QUERY


@pytest.mark.parametrize("code", [110, 200, 201, 203, 383, 388, 434, 441, 443, 10268, 10269])
def test_refusals_reject(code: int) -> None:
    assert codes.order_verdict(code) is OrderVerdict.REJECTED


def test_every_error_says_what_to_do() -> None:
    silent = [
        row.code
        for row in codes.CODES.values()
        if row.severity is codes.Severity.ERROR and row.verdict is OrderVerdict.REJECTED and not row.remedy
    ]
    assert silent == []


ON_WORKING_ORDERS = {
    399: OrderVerdict.NOTICE,
    404: OrderVerdict.NOTICE,
    2109: OrderVerdict.NOTICE,
    2137: OrderVerdict.NOTICE,
    10349: OrderVerdict.NOTICE,
    202: OrderVerdict.CANCELLED,
    **dict.fromkeys((104, 105, 134, 135, 136, 161, 2102, 10147, 10148, 10149), OrderVerdict.QUERY),
}


@pytest.mark.parametrize("code", ON_WORKING_ORDERS)
def test_what_ib_says_of_working_orders_never_ends_them_and_has_a_source(code: int) -> None:
    row = codes.CODES[code]
    assert row.verdict is ON_WORKING_ORDERS[code]
    assert row.source
    assert row.severity is not codes.Severity.ERROR


def test_every_code_has_a_source() -> None:
    assert [row.code for row in codes.CODES.values() if not row.source] == []


def test_table_names_each_code_once() -> None:
    assert len(codes.CODES) == len(codes._ROWS)
