"""Changes of strategies leave one audit entry each, with what stood before and after."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.auth.models import User

from strategies.audit import verify_chain
from strategies.models import AuditEntry, Strategy
from strategies.services import delete_strategy, save_strategy, set_active

pytestmark = pytest.mark.django_db


def newest() -> AuditEntry:
    """Return the last entry."""
    return AuditEntry.objects.latest("id")


@pytest.fixture
def ann() -> User:
    """A user."""
    return User.objects.create_user("ann")


@pytest.fixture
def alpha() -> Strategy:
    """A strategy whose file does not matter."""
    return Strategy.objects.create(symbol="ALPHA", filename="alpha.py")


def test_changed_weights_are_recorded_with_both_values_and_nothing_else(alpha: Strategy, ann: User) -> None:
    save_strategy({"symbol": "ALPHA", "target_weight": Decimal("0.3")}, ann, source="admin")
    entry = newest()
    assert (entry.action, entry.subject, entry.actor, entry.source) == ("strategy.changed", "ALPHA", "ann", "admin")
    assert (entry.before, entry.after) == ({"target_weight": "0"}, {"target_weight": "0.3"})


def test_saving_the_same_again_leaves_no_entry(alpha: Strategy, ann: User) -> None:
    save_strategy({"symbol": "ALPHA", "target_weight": Decimal("0.3")}, ann)
    save_strategy({"symbol": "ALPHA", "target_weight": Decimal("0.3")}, ann)
    assert AuditEntry.objects.filter(subject="ALPHA").count() == 1


def test_creation_activation_and_deletion_are_told_in_order(ann: User) -> None:
    save_strategy({"symbol": "BETA", "filename": "beta.py"}, ann, source="api")
    set_active("BETA", True, ann, source="api")
    delete_strategy("BETA", ann, source="api")
    told = list(AuditEntry.objects.filter(subject="BETA").order_by("id").values_list("action", "reason"))
    assert told == [("strategy.created", ""), ("strategy.changed", "activated"), ("strategy.deleted", "")]
    assert (newest().before or {})["active"] is True
    assert verify_chain() == []
