"""The watch over working orders: what it asks for, what it tells, which exits it adapts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from portfolio.models import Position
from portfolio.services import ensure_account, fold_batch
from tests.unit.portfolio.builders import ACCOUNT, NOW, fill
from trading.engine.watch import OrderWatch
from trading.models import Alert, Order

pytestmark = pytest.mark.django_db
AAPL = 265598


class Host:
    """The engine as the watch sees it: jobs run at once, orders to the manager are kept."""

    def __init__(self) -> None:
        self.checks = 0
        self.cancelled: list[str] = []
        self.changed: list[tuple[str, Decimal]] = []
        self.active_strategies: dict[str, Any] = {}
        self.message_queue = SimpleNamespace(submit=self._submit)
        self.session = SimpleNamespace(request_check=self._check)
        self.trade_manager = SimpleNamespace(cancel_order=self.cancelled.append, modify_order=self._change)

    def _submit(self, work: Callable[[], Any], name: str) -> None:
        work()

    def _check(self) -> None:
        self.checks += 1

    def _change(self, order_ref: str, *, quantity: Decimal) -> None:
        self.changed.append((order_ref, quantity))


def order(
    ref: str, state: str, *, side: str = "BUY", parent: str = "", minutes_ago: float = 0, filled: int = 0
) -> Order:
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    return Order.objects.create(
        order_ref=ref,
        owner="ALPHA",
        state=state,
        con_id=AAPL,
        symbol="AAPL",
        sec_type="STK",
        side=side,
        quantity=Decimal(10),
        filled=Decimal(filled),
        order_type="STP" if parent else "MKT",
        parent_ref=parent,
        sent_at=at,
        created_at=at,
        updated_at=at,
    )


def hold(quantity: int) -> None:
    ensure_account(ACCOUNT, "USD")
    if quantity:
        fold_batch(ACCOUNT, [fill(1, quantity)], lambda _: "ALPHA", NOW)
        assert Position.objects.get().quantity == quantity


def test_silent_order_is_doubted_and_ib_is_asked_not_more_often_than_it_answers() -> None:
    host = Host()
    order("A", "sent", minutes_ago=1)
    watch = OrderWatch(host)  # type: ignore[arg-type]  # what it uses of an engine
    watch.look()
    watch.look()
    assert Order.objects.get().state == "unknown"
    assert host.checks == 1


def test_order_that_stays_unknown_stands_as_an_alert_until_it_is_settled() -> None:
    row = order("A", "unknown", minutes_ago=2)
    watch = OrderWatch(Host())  # type: ignore[arg-type]  # as above
    watch.look()
    watch.look()
    alert = Alert.objects.get()
    assert (alert.key, alert.cleared_at, alert.times) == ("order_unknown:A", None, 1)
    row.state = "cancelled"
    row.save()
    watch.look()
    assert Alert.objects.get().cleared_at is not None


def test_order_just_doubted_is_no_alert_yet() -> None:
    order("A", "unknown")
    OrderWatch(Host()).look()  # type: ignore[arg-type]  # as above
    assert not Alert.objects.exists()


@pytest.mark.parametrize(
    ("held", "cancelled", "changed"),
    [(10, [], []), (6, [], [("stop", Decimal(6))]), (0, ["stop"], []), (-2, ["stop"], [])],
)
def test_exit_follows_its_position(held: int, cancelled: list[str], changed: list[tuple[str, Decimal]]) -> None:
    host = Host()
    hold(held)
    order("entry", "filled", filled=10)
    order("stop", "accepted", side="SELL", parent="entry")
    watch = OrderWatch(host)  # type: ignore[arg-type]  # as above
    watch.look()
    assert (host.cancelled, host.changed) == (cancelled, changed)
    assert watch.guards_something


def test_exit_whose_sibling_filled_is_left_to_ib_at_first() -> None:
    host = Host()
    hold(0)
    order("entry", "filled", filled=10)
    order("profit", "filled", side="SELL", parent="entry", filled=10)
    order("stop", "accepted", side="SELL", parent="entry")
    watch = OrderWatch(host)  # type: ignore[arg-type]  # as above
    watch.look()
    assert host.cancelled == []
    watch._surplus["stop"] -= 10.0
    watch.look()
    assert host.cancelled == ["stop"], "but not for long"
