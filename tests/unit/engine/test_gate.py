"""Orders pass only when nothing stands against them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from strategies.exceptions import OrderDeniedError
from trading.engine import gate as gates
from trading.engine.gate import Gate
from trading.engine.resets import Hold, ResetKind, Window


def denied(gate: Gate, con_id: int = 1) -> str:
    """Return the code of the refusal, empty when the order passes."""
    try:
        gate.check(con_id)
    except OrderDeniedError as error:
        return error.code
    return ""


def test_a_new_gate_is_shut_and_an_open_one_lets_pass() -> None:
    gate = Gate()
    assert denied(gate) == "not_connected"
    gate.open()
    assert denied(gate) == ""


@pytest.mark.parametrize("reason", [gates.NOT_CONNECTED, gates.NOT_RECONCILED, gates.ENGINE_STOPPING])
def test_a_shut_gate_names_its_reason(reason: str) -> None:
    gate = Gate()
    gate.open()
    gate.shut(reason)
    assert denied(gate) == reason


def test_a_stopping_engine_never_opens_again() -> None:
    gate = Gate()
    gate.shut(gates.ENGINE_STOPPING)
    gate.open()
    gate.shut(gates.NOT_RECONCILED)
    assert denied(gate) == "engine_stopping"


def test_a_reset_that_is_due_refuses_with_when_to_try_again_and_ends_by_itself() -> None:
    gate, now = Gate(), datetime(2026, 12, 15, tzinfo=UTC)
    gate.open()
    hold = Hold(Window(ResetKind.RESTART, now, now + timedelta(minutes=10)), 600)
    gate.reset_hold = lambda: hold
    with pytest.raises(OrderDeniedError) as caught:
        gate.check(1)
    assert (caught.value.code, caught.value.fields["retry_after_s"]) == ("reset_pending", 600)
    assert gate.reason == gates.RESET_PENDING
    gate.shut(gates.NOT_CONNECTED)
    assert denied(gate) == "not_connected"
    gate.open()
    gate.reset_hold = lambda: None
    assert (denied(gate), gate.reason) == ("", "")


def test_ledger_trouble_shuts_an_open_gate_and_ends_by_itself() -> None:
    gate = Gate()
    gate.open()
    gate.set_ledger_trouble(True)
    assert denied(gate) == "ledger_trouble"
    gate.set_ledger_trouble(False)
    assert denied(gate) == ""


def test_the_end_of_ledger_trouble_opens_nothing_that_was_shut_otherwise() -> None:
    gate = Gate()
    gate.set_ledger_trouble(True)
    gate.set_ledger_trouble(False)
    assert denied(gate) == "not_connected"


def test_a_locked_instrument_is_denied_alone() -> None:
    gate = Gate()
    gate.open()
    gate.lock_instruments({7})
    assert (denied(gate, 7), denied(gate, 8)) == ("instrument_locked", "")
    gate.lock_instruments(())
    assert denied(gate, 7) == ""
