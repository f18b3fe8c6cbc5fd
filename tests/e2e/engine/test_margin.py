"""IB's answers about margin: orders that wait for them hold nobody up, and pass no limit by it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from strategies.exceptions import OrderDeniedError
from tests.e2e.engine.harness import Rig, position, until
from trading.engine.manager import StrategyManager
from trading.engine.standing import read_revision
from trading.models import Order
from trading.risk_services import set_limit

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

SLOW = "lag 2 openOrder client=0 count=all"  # the answer to a whatIf of the master
WHO: dict[str, Any] = {"reason": "for the test", "actor": "anna", "source": "api"}


def limit(engine: StrategyManager, name: str, value: str, **scope: Any) -> None:
    set_limit(name, Decimal(value), **scope, **WHO)
    until(lambda: engine.risk.decisions.revision >= read_revision(), 3.0, "the limit is known")


def equity(engine: StrategyManager) -> Decimal:
    net = engine.portfolio_manager.get_portfolio_summary()["net_liquidation"]
    assert net is not None
    return Decimal(net)


def pair(rig: Rig) -> tuple[StrategyManager, Any, Any]:
    """An engine with two strategies that run, each with a price of SPY at hand."""
    for symbol in ("ALPHA", "BETA"):
        rig.strategy(symbol)
    engine = rig.engine()
    alpha, beta = rig.start(engine, "ALPHA"), rig.start(engine, "BETA")
    rig.trade(alpha, "SPY", 1)
    rig.trade(beta, "SPY", 1)
    return engine, alpha, beta


@pytest.fixture
def aside() -> Any:
    """Run calls on threads of their own."""
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


def is_asked(rig: Rig) -> bool:
    return rig.gateway.fired(SLOW) > 0


def test_another_order_goes_out_while_ib_is_slow_about_the_margin_of_the_first(
    rig: Rig, aside: Callable[..., Future[Any]]
) -> None:
    engine, alpha, beta = pair(rig)
    limit(engine, "what_if_margin", "1", strategy="ALPHA")
    rig.gateway.fault(SLOW)
    waiting = aside(rig.trade, alpha, "SPY", 3)
    until(lambda: is_asked(rig), what="the first waits for IB")
    rig.trade(beta, "SPY", 2)
    assert not waiting.done()
    waiting.result(15)
    until(lambda: [position("ALPHA", "SPY"), position("BETA", "SPY")] == [Decimal(4), Decimal(3)])
    rows = Order.objects.order_by("id").values_list("owner", "quantity")
    assert list(rows)[-2:] == [("BETA", Decimal(2)), ("ALPHA", Decimal(3))]


def test_a_limit_that_was_used_up_while_ib_was_asked_denies(rig: Rig, aside: Callable[..., Future[Any]]) -> None:
    engine, alpha, beta = pair(rig)
    limit(engine, "what_if_margin", "1", strategy="ALPHA")
    price = engine.risk.unit_value(756733, None)
    limit(engine, "gross_exposure", f"{price * 7 / equity(engine):.10f}")
    rig.gateway.fault(SLOW)
    waiting = aside(rig.trade, alpha, "SPY", 3)
    until(lambda: is_asked(rig), what="the first waits for IB")
    rig.trade(beta, "SPY", 3)
    with pytest.raises(OrderDeniedError) as caught:
        waiting.result(15)
    assert caught.value.code == "gross_exposure"
    assert Order.objects.get(state="denied").owner == "ALPHA"


def test_orders_that_ib_takes_for_fine_alone_do_not_bind_one_margin(
    rig: Rig, aside: Callable[..., Future[Any]]
) -> None:
    engine, alpha, beta = pair(rig)
    rig.strategy("GAMMA")
    gamma = rig.start(engine, "GAMMA")
    limit(engine, "what_if_margin", "1")
    price = engine.risk.unit_value(756733, None)
    each = int(equity(engine) * Decimal("0.8") / price)  # half of it is initial margin: 40 % of the equity
    rig.gateway.fault("lag 0.3 openOrder client=0 count=all")
    together = threading.Barrier(3)

    def _place(strategy: Any) -> Any:
        together.wait(10)
        return rig.place(strategy, "SPY", each, float(round(price * Decimal("0.95"), 2)))  # works, and does not fill

    outcomes = [aside(_place, strategy) for strategy in (alpha, beta, gamma)]
    errors = [outcome.exception(30) for outcome in outcomes]
    [refused] = [error for error in errors if error is not None]
    assert isinstance(refused, OrderDeniedError)
    assert refused.code == "what_if_margin"
    assert Decimal(refused.fields["value"]) > equity(engine)
    assert Order.objects.filter(state="denied").count() == 1


def test_an_answer_that_does_not_come_denies_and_is_on_record(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trading.engine.margin.ANSWER_S", 0.5)
    engine, alpha, _ = pair(rig)
    limit(engine, "what_if_margin", "1")
    rig.gateway.fault("lose openOrder client=0 count=all")
    with pytest.raises(OrderDeniedError, match="did not answer") as caught:
        rig.trade(alpha, "SPY", 3)
    assert caught.value.code == "what_if_margin"
    row = Order.objects.get(state="denied")
    assert row.reason.startswith("what_if_margin: This cannot be checked")
    rig.gateway.fault("clear")
    rig.trade(alpha, "SPY", 3)


def test_a_change_is_measured_by_ibs_answer_too(rig: Rig) -> None:
    engine, alpha, beta = pair(rig)
    rig.strategy("GAMMA")
    gamma = rig.start(engine, "GAMMA")
    ticket = rig.place(alpha, "SPY", 10, 1.0)
    rig.trade(beta, "SPY", int(equity(engine) * Decimal("0.9") / engine.risk.unit_value(756733, None)))
    rig.trade(gamma, "SPY", int(equity(engine) * Decimal("0.9") / engine.risk.unit_value(756733, None)))
    until(lambda: position("GAMMA", "SPY") > 0)
    limit(engine, "what_if_margin", "1", strategy="ALPHA")
    too_many = int(equity(engine) * Decimal("0.9") / engine.risk.unit_value(756733, None))
    with pytest.raises(OrderDeniedError) as caught:
        engine.trade_manager.modify_order(ticket.order_ref, quantity=too_many)
    assert caught.value.code == "what_if_margin"
    engine.trade_manager.modify_order(ticket.order_ref, quantity=20)
    until(lambda: Order.objects.get(order_ref=ticket.order_ref).quantity == 20, what="the change is taken")
