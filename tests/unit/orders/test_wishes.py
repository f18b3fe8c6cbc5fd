"""Orders as a person or a program asks for them: read part by part, never guessed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from strategies.exceptions import ConfigError
from trading.orders.wishes import contract_of_text, read_bracket, read_contract, read_wish

BUY = {"side": "BUY", "quantity": "5"}


def wish(order: dict[str, Any], **contract: Any) -> Any:
    return read_wish({"contract": contract or {"symbol": "AAPL"}, "order": order})


def test_plain_wish_is_a_market_order_of_a_us_share() -> None:
    found = wish({**BUY, "side": "SELL"})
    assert (found.contract.symbol, found.contract.secType, found.contract.exchange) == ("AAPL", "STK", "SMART")
    assert (found.contract.currency, found.quantity, found.terms.order_type) == ("USD", Decimal(-5), "MKT")
    assert (found.algo, found.terms.outside_rth, found.order().transmit) == (False, False, True)


@pytest.mark.parametrize(
    ("order", "part"),
    [
        ({"side": "BUY"}, "quantity"),
        ({"quantity": "5"}, "side"),
        ({**BUY, "quantity": "0"}, "quantity"),
        ({**BUY, "quantity": "-5"}, "quantity"),
        ({**BUY, "quantity": 5}, "quantity"),
        ({**BUY, "quantity": "1e3"}, "quantity"),
        ({**BUY, "side": "HOLD"}, "side"),
        ({**BUY, "order_type": "LMT"}, "order"),
        ({**BUY, "order_type": "LMT", "limit": "NaN"}, "limit"),
        ({**BUY, "order_type": "GUESS"}, "order_type"),
        ({**BUY, "good_after": "2026-03-02T15:00:00"}, "good_after"),
        ({**BUY, "tif": "GTD"}, "order"),
        ({**BUY, "outside_rth": "yes"}, "outside_rth"),
        ({**BUY, "transmit": False}, "order"),
        ([], "order"),
    ],
)
def test_wish_that_cannot_be_used_names_its_part(order: Any, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        wish(order)
    assert part in caught.value.fields["errors"]


@pytest.mark.parametrize(
    "contract",
    [
        {},
        {"con_id": "265598"},
        {"con_id": True},
        {"con_id": -1},
        {"symbol": "../etc"},
        {"symbol": "A" * 33},
        {"symbol": "AAPL", "exchange": "smart; drop"},
        {"symbol": "AAPL", "currency": "usd"},
        {"symbol": "AAPL", "sec_type": "BAG"},
        {"symbol": "AAPL", "surprise": 1},
    ],
)
def test_contract_that_cannot_be_used_is_refused(contract: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        read_contract(contract)


def test_contract_by_its_id_leaves_the_rest_to_ib() -> None:
    found = read_contract({"con_id": 265598})
    assert (found.conId, found.secType, found.exchange, found.currency) == (265598, "", "SMART", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AAPL", ("STK", "AAPL", "SMART", "USD", "", 0.0, "")),
        ("STK SAP IBIS EUR", ("STK", "SAP", "IBIS", "EUR", "", 0.0, "")),
        ("FUT ES CME USD 20260320", ("FUT", "ES", "CME", "USD", "20260320", 0.0, "")),
        ("OPT SPY SMART USD 20260320 500 C", ("OPT", "SPY", "SMART", "USD", "20260320", 500.0, "C")),
    ],
)
def test_contract_is_read_from_a_short_text(text: str, expected: tuple[Any, ...]) -> None:
    c = contract_of_text(text)
    found = (c.secType, c.symbol, c.exchange, c.currency, c.lastTradeDateOrContractMonth, c.strike, c.right)
    assert found == expected
    assert contract_of_text("265598").conId == 265598


@pytest.mark.parametrize("text", ["", "__import__('os')", "STK AAPL SMART USD 20260320 1 C extra", "CAT DOG FISH"])
def test_text_that_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        contract_of_text(text)


def test_bracket_has_a_parent_and_releases_all_with_its_last_order() -> None:
    args = {"contract": {"symbol": "SPY"}, "order": {**BUY, "order_type": "LMT", "limit": "10"}}
    exits = {"take_profit": {"limit": "12", "tif": "GTC"}, "stop_loss": {"order_type": "TRAIL", "trail": "1"}}
    _, orders = read_bracket({**args, **exits})
    assert [(o.action, o.orderType, o.transmit) for o in orders] == [
        ("BUY", "LMT", False),
        ("SELL", "LMT", False),
        ("SELL", "TRAIL", True),
    ]
    for wrong in ({}, {"stop_loss": {"order_type": "MKT"}}, {"take_profit": {"limit": "x"}}):
        with pytest.raises(ConfigError):
            read_bracket({**args, **wrong})
