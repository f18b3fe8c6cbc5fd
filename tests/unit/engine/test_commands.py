"""Asking the engine: what is checked, stored, claimed once and answered."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser

from strategies.exceptions import ConfigError, ConflictError, NotFoundError, StaleEpochError, StrategyError
from trading.engine.dispatch import Dispatcher, claim, fail_orphans
from trading.engine.lease import Lease
from trading.engine.specs import SPECS, check_args
from trading.models import CommandState, EngineCommand, EngineEvent, EngineLease
from trading.services import enqueue, wait_for

EXAMPLES: dict[str, Any] = {
    "accept_margin": True,
    "session": "desk",
    "ticker": "SPY",
    "scanner": "gap",
    "weight": "0.25",
    "symbol": "ALPHA",
    "order_ref": "ALPHA/1",
    "client_id": 3,
    "con_id": 265598,
    "level": 2,
    "limit_price": "10.5",
    "order_type": "LMT",
    "stop_price": "9",
    "strategy": "ALPHA",
    "owner": "ALPHA",
    "owners": {"ALPHA": "1"},
    "from_owner": "Discretionary",
    "kind": "deposit",
    "details": {"owner": "ALPHA", "currency": "USD", "amount": "10.5"},
    "reason": "a test",
    "key": "k-1",
    "effective_at": "2026-03-02T15:00:00Z",
    "propose": True,
    "force": False,
    "adjustment": 1,
    "parked": 1,
    "break_id": 1,
    "alert": 1,
    "finding": 1,
    "exec_id": "0000e0d5.65f4a1b2.01.01",
    "quantity": "5",
    "sha256": "a" * 64,
    "action": "retry",
    "contract": {"con_id": 756733},
    "new_contract": {"con_id": 756734},
    "order": {"side": "BUY", "quantity": "5", "order_type": "LMT", "limit": "10"},
    "take_profit": {"limit": "12"},
    "stop_loss": {"stop": "9"},
    "limit": "10.5",
    "stop": "9.5",
    "trail": "0.5",
    "trail_percent": "1.5",
    "pattern": "SPY",
}


@pytest.mark.parametrize("kind", sorted(SPECS))
def test_every_kind_takes_its_arguments_and_no_others(kind: str) -> None:
    spec = SPECS[kind]
    check_args(kind, {name: EXAMPLES[name] for name in (*spec.required, *spec.optional)})
    with pytest.raises(ConfigError) as caught:
        check_args(kind, {**{name: EXAMPLES[name] for name in spec.required}, "surprise": 1})
    assert "surprise" in caught.value.fields["errors"]
    for name in spec.required:
        with pytest.raises(ConfigError) as caught:
            check_args(kind, {})
        assert name in caught.value.fields["errors"]


@pytest.mark.parametrize("weight", ["1.1", "-0.1", 0.5, "", None])
def test_a_weight_that_is_none_is_refused(weight: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check_args("margin_plan", {"symbol": "ALPHA", "weight": weight})
    assert "weight" in caught.value.fields["errors"]


@pytest.mark.parametrize("symbol", ["", "../x", "A B", "1A", "A" * 33, 5, None])
def test_a_symbol_that_is_none_is_refused(symbol: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check_args("start_strategy", {"symbol": symbol})
    assert caught.value.code == "bad_arguments"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        check_args("format_disk", {})
    assert caught.value.code == "unknown_command"


@pytest.mark.django_db
class TestEnqueue:
    """Storing requests."""

    def test_the_same_key_is_the_same_command(self) -> None:
        first = enqueue("start_all", {}, source="api", idempotency_key="k")
        assert enqueue("start_all", {}, source="api", idempotency_key="k").pk == first.pk
        assert EngineCommand.objects.count() == 1

    def test_a_key_of_another_request_is_refused(self) -> None:
        enqueue("start_all", {}, source="api", idempotency_key="k")
        with pytest.raises(ConflictError) as caught:
            enqueue("stop_all", {}, source="api", idempotency_key="k")
        assert caught.value.code == "idempotency_key_reused"

    def test_the_user_is_kept_and_an_anonymous_one_is_none(self) -> None:
        user = get_user_model().objects.create_user("ann")
        assert enqueue("start_all", {}, user=user, source="page").user == user
        assert enqueue("start_all", {}, user=AnonymousUser(), source="page").user is None

    def test_waiting_returns_the_command_as_it_stands(self) -> None:
        command = enqueue("start_all", {}, source="api")
        assert wait_for(command.id, 0.0).state == CommandState.QUEUED
        with pytest.raises(NotFoundError):
            wait_for(uuid4(), 0.0)


@pytest.fixture
def lease(db: None) -> Lease:
    """An acquired lease."""
    lease = Lease(60.0)
    lease.acquire()
    return lease


def test_a_claim_takes_the_most_urgent_first_and_each_once(lease: Lease) -> None:
    slow = enqueue("start_all", {}, source="api")
    urgent = enqueue("cancel_all", {}, source="api")
    assert [command.pk for command in claim(lease)] == [urgent.pk, slow.pk]
    assert claim(lease) == []
    assert EngineEvent.objects.filter(kind="command", payload__state="accepted").count() == 2


def test_a_claim_expires_what_is_late(lease: Lease) -> None:
    late = enqueue("start_all", {}, source="api", expires_in_s=-1)
    assert claim(lease) == []
    late.refresh_from_db()
    assert (late.state, late.error_code) == ("expired", "expired")


def test_a_fenced_engine_claims_nothing(lease: Lease) -> None:
    command = enqueue("start_all", {}, source="api")
    EngineLease.objects.update(epoch=lease.epoch + 1)
    with pytest.raises(StaleEpochError):
        claim(lease)
    command.refresh_from_db()
    assert command.state == CommandState.QUEUED


def test_orphans_of_a_dead_engine_fail_and_our_own_do_not(lease: Lease) -> None:
    now = datetime.now(UTC) - timedelta(minutes=1)
    orphan = EngineCommand.objects.create(kind="stop_all", state="accepted", epoch=lease.epoch - 1, created_at=now)
    own = EngineCommand.objects.create(kind="stop_all", state="accepted", epoch=lease.epoch, created_at=now)
    assert fail_orphans(lease) == 1
    orphan.refresh_from_db()
    own.refresh_from_db()
    assert (orphan.error_code, own.state) == ("engine_died", "accepted")


@pytest.mark.django_db(transaction=True)
def test_the_dispatcher_does_commands_side_by_side_and_records_every_outcome() -> None:
    lease = Lease(60.0)
    lease.acquire()
    release = threading.Event()

    def _fail(args: Any) -> dict[str, Any]:
        raise StrategyError("It failed.", code="start_failed")

    def _crash(args: Any) -> dict[str, Any]:
        raise RuntimeError("a bug")

    handlers: dict[str, Any] = {
        "stop_all": lambda args: {"waited": release.wait(10)},
        "start_all": lambda args: {"ok": True},
        "start_strategy": _fail,
        "connect": _crash,
    }
    dispatcher = Dispatcher(lease, handlers, lambda: None)
    dispatcher.start()
    try:
        slow = enqueue("stop_all", {}, source="api")
        quick = wait_for(enqueue("start_all", {}, source="api").id, 5.0)
        failed = wait_for(enqueue("start_strategy", {"symbol": "A"}, source="api").id, 5.0)
        crashed = wait_for(enqueue("connect", {}, source="api").id, 5.0)
        unknown = wait_for(enqueue("reconcile", {}, source="api").id, 5.0)
        assert (quick.state, quick.result) == ("done", {"ok": True})
        assert (failed.state, failed.error_code, failed.error) == ("failed", "start_failed", "It failed.")
        assert (crashed.error_code, crashed.error) == ("internal_error", "RuntimeError: a bug")
        assert unknown.error_code == "unknown_command"
        assert wait_for(slow.id, 0.0).state == CommandState.ACCEPTED
        release.set()
        assert wait_for(slow.id, 5.0).result == {"waited": True}
    finally:
        release.set()
        dispatcher.stop(5.0)
