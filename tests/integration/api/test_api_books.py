"""The books through the API: exact decimals, honest nulls, pages without gaps."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from portfolio.models import EquitySnapshot
from portfolio.services import ensure_account, fold_batch, open_account, record_marks
from strategies.events import CommissionSnapshot, FillSnapshot
from strategies.models import Strategy
from strategies.schemas import plain
from tests.integration.api.conftest import Api, error_of
from tests.unit.portfolio.builders import ACCOUNT, fee, fill, owner_of

SHARE = 265598


@pytest.fixture
def books(db: None) -> None:
    """An opened account, one strategy with three fills, one of them without its commission."""
    now = timezone.now()
    Strategy.objects.create(symbol="ALPHA", filename="alpha.py")
    ensure_account(ACCOUNT, "USD")
    open_account(ACCOUNT, {"USD": Decimal(1_000_000)}, [], [], now)
    items: list[FillSnapshot | CommissionSnapshot] = [
        fill(1, 100, "50.1234567890"),
        fee(1, "1.05"),
        fill(2, -40, 51),
        fee(2, "0.35"),
        fill(3, 1, 52),
    ]
    fold_batch(ACCOUNT, items, owner_of, now)
    record_marks({SHARE: Decimal("53.5")}, now)


def test_positions_carry_exact_text_and_marks(reader: Api, books: None) -> None:
    (position,) = reader.get("/portfolio/positions", strategy="ALPHA").json()["items"]
    assert (position["owner"], position["con_id"], position["quantity"]) == ("ALPHA", SHARE, "61")
    assert (position["mark"], position["market_value"], position["stale"]) == ("53.5", "3263.5", False)
    assert position["updated_at"].endswith("Z")
    assert "E" not in position["average_cost"].upper()
    assert reader.get("/portfolio/positions", strategy="BETA").json() == {"items": [], "next": None}


def test_fills_are_paged_newest_first_and_a_late_commission_is_null(reader: Api, books: None) -> None:
    first = reader.get("/portfolio/fills", strategy="ALPHA", limit=2).json()
    second = reader.get("/portfolio/fills", strategy="ALPHA", limit=2, cursor=first["next"]).json()
    rows = first["items"] + second["items"]
    assert [row["exec_id"][9:17] for row in rows] == ["00000003", "00000002", "00000001"]
    assert [row["commission"] for row in rows] == [None, "0.35", "1.05"]
    assert [row["side"] for row in rows] == ["BOT", "SLD", "BOT"]
    assert rows[2]["price"] == "50.123456789"
    assert second["next"] is None


def test_strategy_summary_shows_cash_and_profit(reader: Api, books: None) -> None:
    summary = reader.get("/portfolio/strategy/ALPHA").json()
    assert (summary["symbol"], summary["fills"], summary["figures"]["positions"]) == ("ALPHA", 3, 1)
    cash = {row["currency"]: Decimal(row["amount"]) for row in summary["cash"]}
    assert cash["USD"] == -Decimal("5012.3456789") - Decimal("1.05") + 40 * 51 - Decimal("0.35") - 52
    error_of(reader.get("/portfolio/strategy/NOPE"), 404)
    assert reader.get("/portfolio/strategy/Discretionary").json()["symbol"] == "Discretionary"


def test_summary_adds_up_all_owners(reader: Api, books: None) -> None:
    summary = reader.get("/portfolio/summary").json()
    assert (summary["account_id"], summary["currency"]) == (ACCOUNT, "USD")
    assert {row["owner"] for row in summary["owners"]} == {"ALPHA", "Discretionary"}
    assert summary["breaks"] == []


def test_summary_before_any_account_says_so(reader: Api) -> None:
    assert error_of(reader.get("/portfolio/summary"), 404)["code"] == "account_unknown"


def test_equity_is_oldest_first_from_the_given_moment(reader: Api, books: None) -> None:
    now = timezone.now()
    for day in (1, 50, 200):
        EquitySnapshot.objects.create(
            account_id=ACCOUNT,
            owner="ALPHA",
            taken_at=now - timedelta(days=day),
            currency="USD",
            equity=Decimal(1000 + day),
            cash=Decimal(10),
            realized_pnl=Decimal(0),
            unrealized_pnl=Decimal(0),
        )

    def equities(**query: Any) -> list[str]:
        return [point["equity"] for point in reader.get("/portfolio/equity", **query).json()["items"]]

    assert equities(owner="ALPHA") == ["1050", "1001"]
    assert equities(owner="ALPHA", since=(now - timedelta(days=300)).isoformat()) == ["1200", "1050", "1001"]
    assert equities() == []
    details = reader.get("/strategies/ALPHA/details").json()
    assert [point["equity"] for point in details["equity"]] == ["1050", "1001"]


def test_details_bring_configuration_life_statistics_and_positions(reader: Api, books: None) -> None:
    details = reader.get("/strategies/ALPHA/details").json()
    assert set(details) == {"strategy", "run", "stats", "positions", "equity"}
    assert details["strategy"]["filename"] == "alpha.py"
    assert details["run"]["state"] == "stopped"
    assert details["stats"]["fills"] == 3
    assert [row["quantity"] for row in details["positions"]] == ["61"]
    assert error_of(reader.get("/strategies/NOPE/details"), 404)["code"] == "unknown_strategy"


@pytest.mark.parametrize(
    ("value", "text"),
    [("1E+2", "100"), ("0E-10", "0"), ("-0.00", "0"), ("100.0500", "100.05"), ("1E-10", "0.0000000001"), ("10", "10")],
)
def test_decimal_is_written_plain(value: str, text: str) -> None:
    assert plain(Decimal(value)) == text


def test_strategy_that_owns_a_position_is_not_deleted(api: Api, books: None) -> None:
    error = error_of(api.post("/strategies/ALPHA/delete"), 409)
    assert error["code"] == "strategy_in_use"
    assert Strategy.objects.filter(symbol="ALPHA").exists()
