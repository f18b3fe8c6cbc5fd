"""A second order at IB under one reference of ours is kept apart and told."""

from __future__ import annotations

import pytest

from tests.unit.orders.evidence import NOW, draft, trade
from trading.models import Alert, Order
from trading.orders.intents import IntentWriter
from trading.orders.services import record_order

pytestmark = pytest.mark.django_db


def test_second_perm_id_under_one_reference_stands_as_one_alert() -> None:
    ref = IntentWriter(lambda: None).commit(draft())
    record_order(trade(ref, perm_id=900), NOW)
    assert not Alert.objects.exists()
    for _ in range(2):
        record_order(trade(ref, perm_id=901, order_id=4), NOW)
    alert = Alert.objects.get(cleared_at=None)
    assert (alert.key, alert.severity) == ("order_twice:901", "critical")
    assert ref in alert.text
    assert Order.objects.count() == 2
