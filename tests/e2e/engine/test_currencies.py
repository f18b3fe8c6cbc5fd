"""Strategies in other currencies than the account's: rates asked for, cash allocated, orders sized, books valued."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

import pytest
from ib_async import Stock

from portfolio.models import Break, CashBalance, FxRate, Position
from portfolio.services import rates_of
from strategies.exceptions import OrderDeniedError
from tests.e2e.engine.harness import Rig, until
from trading.gateway.instruments import COLUMNS
from trading.gateway.testing import RunningGateway, running_gateway
from trading.models import Order

SAP = (
    "14204,SAP,STK,SMART,IBIS,EUR,SAP,XETRA,,SAP SE,COMMON,Technology,Software,Applications,"
    "26,XETR,Europe/Berlin,1,120,4000000,0.1"
)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    """A paper gateway that lists a share in euros."""
    table = tmp_path / "instruments.csv"
    table.write_text(",".join(COLUMNS) + "\n" + SAP + "\n", encoding="utf-8")
    with running_gateway(market="synthetic", seed=7, commission_delay_s=0.02, instruments_file=table) as running:
        yield running


def broker_cash(rig: Rig, currency: str) -> Decimal:
    venue = rig.gateway.venue
    rows = rig.gateway.call(lambda: venue.account_values(venue.market_now(datetime.now(UTC))))
    found = [row.value for row in rows if (row.key, row.currency) == ("CashBalance", currency)]
    return Decimal(found[0]) if found else Decimal(0)


def booked_cash(currency: str) -> Decimal:
    return sum(CashBalance.objects.filter(currency=currency).values_list("amount", flat=True), Decimal(0))


def cash_of(owner: str, currency: str) -> Decimal:
    return CashBalance.objects.filter(owner=owner, currency=currency).values_list(
        "amount", flat=True
    ).first() or Decimal(0)


def buy_by_size(rig: Rig, strategy: Any, contract: Stock, size: str) -> Any:
    async def _buy() -> Any:
        ticket = await strategy.place_order_by_size(contract, Decimal(size), "BUY", algo=False)
        assert await ticket.wait_done(10.0), ticket
        return ticket

    return rig.on_loop(strategy, _buy())


def test_euro_strategy_in_a_dollar_account_is_allocated_sized_filled_and_valued(rig: Rig) -> None:
    rig.strategy("EUROS", currency="EUR", params={"max_position_size": 0.5})
    engine = rig.engine(autostart=False)
    # IB says no rate of a currency that the account does not hold: it is asked for.
    until(lambda: cash_of("EUROS", "EUR"), what="cash in euros")
    spot = FxRate.objects.filter(currency="EUR").latest("at")
    assert (spot.base, spot.source) == ("USD", "spot")
    allocated = cash_of("EUROS", "EUR")
    assert abs(allocated * spot.worth - 100_000) < 100
    assert booked_cash("EUR") == 0  # Discretionary lends what the account does not hold

    strategy = rig.start(engine, "EUROS")
    buy_by_size(rig, strategy, Stock("SAP", "SMART", "EUR"), "0.4")
    buy_by_size(rig, strategy, Stock("SPY", "SMART", "USD"), "0.3")
    until(lambda: Position.objects.filter(owner="EUROS").exclude(quantity=0).count() == 2, what="both are held")
    orders = {row.symbol: row for row in Order.objects.filter(owner="EUROS")}
    euros = Position.objects.get(owner="EUROS", instrument__symbol="SAP")
    dollars = Position.objects.get(owner="EUROS", instrument__symbol="SPY")
    assert orders["SAP"].quantity == euros.quantity
    about = (allocated * Decimal("0.4") / euros.average_cost).to_integral_value(ROUND_FLOOR)
    assert abs(euros.quantity - about) <= 1
    about = (allocated * Decimal("0.3") * spot.worth / dollars.average_cost).to_integral_value(ROUND_FLOOR)
    assert abs(dollars.quantity - about) <= 1

    def cash_agrees() -> bool:
        return all(abs(booked_cash(c) - broker_cash(rig, c)) < Decimal("0.01") for c in ("EUR", "USD"))

    until(cash_agrees, what="cash agrees with the broker's in both currencies")
    assert booked_cash("EUR") < -30_000  # the account borrows the euros, as IB does it
    until(
        lambda: rates_of(engine.account_id).quote("EUR").source == "account", what="IB's own rate, now that it is held"
    )

    def equity() -> Decimal:
        return engine.portfolio_manager.calculate_strategy_equity("EUROS")

    assert abs(equity() - allocated) < allocated / 100
    assert not Break.objects.filter(state="open").exists()
    assert not rates_of(engine.account_id).is_stale(["EUR"])


def test_rates_of_pairs_are_found_in_both_orders(rig: Rig) -> None:
    engine = rig.engine(autostart=False)
    fx = engine.portfolio_manager.fx_cache
    euro, yen = fx.quote("EUR"), fx.quote("JPY")
    assert Decimal("0.8") < euro.worth_in_base < Decimal("1.6")
    assert Decimal(100) < yen.units_per_base < Decimal(220)
    there = fx.convert(Decimal(1_000), "EUR", "JPY")
    assert abs(fx.convert(there, "JPY", "EUR") - 1_000) < Decimal("0.0001")
    assert fx.base_currency == "USD"


def test_currency_without_any_price_waits_and_is_never_taken_for_one(rig: Rig) -> None:
    rig.strategy("KRONOR", currency="SEK")
    engine = rig.engine(autostart=False)
    strategy = rig.start(engine, "KRONOR")
    with pytest.raises(OrderDeniedError) as denied:
        rig.on_loop(strategy, strategy.calculate_quantity(Stock("SPY", "SMART", "USD"), Decimal("0.1")))
    assert denied.value.code == "fx_unknown"
    assert not CashBalance.objects.filter(owner="KRONOR").exists()
    assert not FxRate.objects.filter(currency="SEK").exists()
