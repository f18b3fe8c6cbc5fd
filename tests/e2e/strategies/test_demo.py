"""The demo strategies on real minute bars, through engine, gateway and ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from mats_site.management.commands.setup_demo import set_demo_limits
from portfolio.models import Execution, Position
from strategies.services import save_strategy
from tests.e2e.engine.harness import Rig, run_state, until
from trading.models import Order
from trading.risk_models import RiskLimit

pytestmark = pytest.mark.e2e

FIRST_TRADE_S = 120.0
DEMOS = {"CROSS": "ma_cross.py", "MEAN": "mean_reversion.py"}


def test_both_demos_trade_within_two_minutes_and_own_what_they_trade(rig: Rig) -> None:
    RiskLimit.objects.all().delete()  # the limits of a first start, not those of a test of something else
    set_demo_limits()
    for symbol, filename in DEMOS.items():
        save_strategy(
            {"symbol": symbol, "filename": filename, "active": True, "target_weight": "0.3", "restart_policy": "never"},
            None,
        )
    engine = rig.engine()
    owners = Execution.objects.order_by().values_list("owner", flat=True).distinct()
    until(lambda: set(owners.all()) >= set(DEMOS), FIRST_TRADE_S, "a fill of each")
    assert {run_state(symbol) for symbol in DEMOS} == {"running"}
    engine.cleanup(5.0)
    assert {order.owner for order in Order.objects.all()} == set(DEMOS)
    assert not Execution.objects.exclude(owner__in=DEMOS).exists()
    held: dict[int, Decimal] = {}
    for position in Position.objects.filter(owner__in=DEMOS):
        held[position.instrument_id] = held.get(position.instrument_id, Decimal(0)) + position.quantity
    broker = rig.gateway.call(lambda: rig.gateway.venue.positions(datetime.now(UTC)))
    at_broker = {position.contract.con_id: position.quantity for position in broker}
    for con_id in held.keys() | at_broker.keys():
        assert held.get(con_id, 0) == at_broker.get(con_id, 0)


def test_template_buys_one_share_once_across_a_restart(rig: Rig) -> None:
    save_strategy({"symbol": "ONE", "filename": "template_strategy.py", "target_weight": "0.1"}, None)
    rig.start(rig.engine(), "ONE")
    until(lambda: Execution.objects.filter(owner="ONE").exists())
    assert rig.do("stop_strategy", symbol="ONE").state == "done"
    until(lambda: run_state("ONE") == "stopped")
    rig.do("start_strategy", symbol="ONE")
    until(lambda: run_state("ONE") == "running")
    assert rig.do("stop_strategy", symbol="ONE").state == "done"
    until(lambda: run_state("ONE") == "stopped")
    assert [execution.quantity for execution in Execution.objects.filter(owner="ONE")] == [Decimal(1)]


LISTENER = """
from strategies.base import BaseStrategy

class ListeningStrategy(BaseStrategy):
    async def initialize_strategy(self):
        self.heard = []
    async def run_strategy(self):
        await self.until_stopped()
    def on_fill(self, trade, fill):
        self.heard.append(("fill", fill.execution.orderRef, fill.execution.shares))
    async def on_status_change(self, trade, status):
        self.heard.append(("status", trade.order.orderRef, status.status))
"""


def test_hooks_hear_the_real_broker_and_the_ledger_does_not_need_them(rig: Rig) -> None:
    rig.strategy("EAR", LISTENER)
    strategy = rig.start(rig.engine(), "EAR")
    ticket = rig.trade(strategy, "SPY", 2)
    until(lambda: Execution.objects.filter(owner="EAR").exists())
    fills = [heard for heard in strategy.heard if heard[0] == "fill"]
    assert {ref for _, ref, _ in fills} == {ticket.order_ref}
    assert sum(shares for _, _, shares in fills) == 2
    until(lambda: ("status", ticket.order_ref, "Filled") in strategy.heard)
    assert sum(e.quantity for e in Execution.objects.filter(owner="EAR")) == 2
