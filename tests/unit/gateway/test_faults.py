"""The language of faults and what the rules do with frames, without a gateway."""

from __future__ import annotations

from contextlib import suppress
from datetime import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.gateway import faults
from trading.gateway.faults import FaultError, parse, parse_script
from trading.gateway.faults_wire import Rule, WireFaults, kind_of
from trading.gateway.protocol_responses import message

FILL, STATUS, FEE = message("11", "-1", "x" * 40), message("3", "7", "Filled"), message("59", "1", "e1")


def armed(*lines: str, seed: int = 0) -> WireFaults:
    """Rules as the desk makes them."""
    wire = WireFaults(seed)
    for line in lines:
        planned = parse(line)
        fault, moment = planned.fault, planned.moment
        if moment.message is not None:
            wire.add(Rule(fault, moment.message, 1, skip=moment.nth - 1, triggers=fault))
            continue
        wire.add(
            Rule(
                fault,
                fault.get("message"),
                fault.get("count", 1),
                skip=fault.get("skip", 0),
                client=fault.get("client"),
                chance=fault.get("p", 1.0),
                partner=fault.get("with"),
            )
        )
    return wire


def sent(wire: WireFaults, *frames: bytes, key: int = 1, client: int = 1, now_s: float = 0.0) -> list[bytes]:
    """The frames that go out."""
    return wire.outgoing(key, client, frames, now_s).frames


def test_a_cut_ends_the_socket_after_that_byte_and_nothing_follows() -> None:
    out = armed("cut 37 execDetails").outgoing(1, 1, [STATUS, FILL, FEE], 0.0)
    assert (out.frames, out.close) == ([STATUS, FILL[:37]], True)


def test_a_message_is_repeated_as_often_as_asked_and_only_the_next_one() -> None:
    wire = armed("dup 3 execDetails")
    assert sent(wire, FILL, STATUS, FILL) == [FILL] * 4 + [STATUS, FILL]


def test_a_lost_message_is_counted_and_its_neighbours_pass() -> None:
    wire = armed("lose commissionReport count=2 skip=1")
    assert sent(wire, FEE, FEE, FILL, FEE, FEE) == [FEE, FILL, FEE]
    assert wire.fired["lose commissionReport count=2 skip=1"] == 2


def test_a_swapped_message_follows_the_next_one_or_the_next_of_the_kind_named() -> None:
    assert sent(armed("swap orderStatus"), STATUS, FEE, FILL) == [FEE, STATUS, FILL]
    assert sent(armed("swap orderStatus with=execDetails"), STATUS, FEE, FILL) == [FEE, FILL, STATUS]


def test_a_swapped_message_that_nothing_follows_goes_out_after_a_while() -> None:
    wire = armed("swap orderStatus")
    assert sent(wire, STATUS) == []
    assert sent(wire, now_s=1.9) == []
    assert sent(wire, now_s=2.0) == [STATUS]
    wire.sweep(2.0)
    assert wire.is_idle


def test_a_late_message_goes_out_when_its_time_has_come_and_to_its_own_socket() -> None:
    wire = armed("lag 250ms execDetails count=all")
    assert sent(wire, FILL, STATUS, key=1) == [STATUS]
    assert sent(wire, STATUS, key=2, now_s=0.3) == [STATUS]
    assert sent(wire, FEE, key=1, now_s=0.3) == [FILL, FEE]


def test_what_waits_for_a_socket_goes_with_it() -> None:
    wire = armed("lag 1 execDetails", "swap orderStatus")
    sent(wire, FILL, STATUS)
    wire.forget(1)
    assert sent(wire, now_s=9.0) == []


def test_only_the_client_that_is_named_is_troubled() -> None:
    wire = armed("lose execDetails client=7 count=all")
    assert sent(wire, FILL, client=0) == [FILL]
    assert sent(wire, FILL, client=7) == []


def test_requests_are_lost_or_held_back() -> None:
    wire = armed("lose placeOrder", "lag 2 cancelOrder")
    assert [wire.incoming(1, number, 0.0) for number in ("3", "4", "3", "49")] == [None, 2.0, 0.0, 0.0]


def test_a_fault_waits_for_the_message_it_names() -> None:
    wire = armed("when execDetails 2 reboot 4")
    sent(wire, FILL, STATUS)
    assert not wire.triggered
    assert sent(wire, FILL) == [FILL]
    assert [fault.text for fault in wire.take_triggered()] == ["reboot 4"]
    assert not wire.take_triggered()


def test_clearing_lets_go_what_waits() -> None:
    wire = armed("lag 60 execDetails", "swap orderStatus", "lose any count=all")
    sent(wire, FILL, STATUS)
    wire.clear()
    assert sent(wire, FEE) == [FILL, STATUS, FEE]
    assert wire.is_idle


def test_the_greeting_has_a_name_of_its_own() -> None:
    greeting = message("178", "20260302 15:00:00 UTC")
    assert kind_of(greeting) == "greeting"
    assert sent(armed("cut 3 greeting"), greeting) == [greeting[:3]]


@given(st.integers(0, 2**32), st.lists(st.sampled_from([FILL, STATUS, FEE]), max_size=30))
def test_the_same_seed_gives_the_same_faults(seed: int, frames: list[bytes]) -> None:
    lines = (
        "lose execDetails p=0.5 count=all",
        "dup 2 orderStatus p=0.3 count=all",
        "cut random commissionReport p=0.2",
    )
    first, second = (armed(*lines, seed=seed).outgoing(1, 1, frames, 0.0) for _ in range(2))
    assert first == second


@given(st.lists(st.sampled_from([FILL, STATUS, FEE]), max_size=30))
def test_without_a_rule_every_frame_passes_as_it_is(frames: list[bytes]) -> None:
    assert sent(WireFaults(), *frames) == frames
    assert sent(armed("lose position count=all", "swap error"), *frames) == frames


@pytest.mark.parametrize(
    ("line", "verb", "values"),
    [
        ("hole client=3 for=2m", "hole", {"client": 3, "for": 120.0}),
        ('say 1100 "all is lost" client=0', "say", {"code": 1100, "text": "all is lost", "client": 0}),
        ("fix quantity=5 price=1.25", "fix", {"quantity": Decimal(5), "price": Decimal("1.25")}),
        ("reboot 4 down=250ms", "reboot", {"ids": 4, "down": 0.25}),
        ("hand SPY -3  # by hand", "hand", {"symbol": "SPY", "quantity": Decimal(-3)}),
        ("dup_status all", "dup_status", {"count": faults.ALL}),
    ],
)
def test_lines_are_read(line: str, verb: str, values: dict[str, object]) -> None:
    fault = parse(line).fault
    assert (fault.verb, dict(fault.values)) == (verb, values)


def test_moments_are_read() -> None:
    script = """
    # a night
    after 1.5 say 1100
    daily 23:45 restart 20
    at 01:00 refuse 4h
    when execDetails 3 reboot 4
    """
    moments = [each.moment for each in parse_script(script)]
    assert [moment.after_s for moment in moments] == [1.5, 0.0, 0.0, 0.0]
    assert [(moment.at, moment.daily) for moment in moments[1:3]] == [(time(23, 45), True), (time(1), False)]
    assert (moments[3].message and moments[3].message.name, moments[3].nth) == ("execDetails", 3)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("sabotage 3", "'sabotage' is no verb"),
        ("cut execDetails", "is no whole number"),
        ("cut 3", "needs message"),
        ("cut 3 execDetail", "is no message"),
        ("cut 3 placeOrder", "works on what the gateway tells"),
        ("lose execDetails clients=3", "there is no option 'clients'"),
        ("drop now", "'now' is too much"),
        ("lag soon execDetails", "no length of time"),
        ("lose execDetails p=1.5", "no chance"),
        ("at noon drop", "no time of day"),
        ("after 5", "needs a moment and a verb"),
        ("when execDetails 0 drop", "from 1 on"),
        ("when execDetails 3", "needs a message"),
        ("withhold maybe", "none of on, off"),
        ('say 1 "open', "No closing quotation"),
    ],
)
def test_a_wrong_line_is_named_with_its_number_and_what_is_wrong(line: str, word: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_script(f"# a script\n\ndrop\n{line}\n")
    assert caught.value.message.startswith("Line 4: ")
    assert word in caught.value.message


@given(st.text(max_size=60))
def test_any_text_is_a_fault_or_an_error_with_words(text: str) -> None:
    with suppress(FaultError):
        assert parse(text).fault.verb in faults.VERBS


def test_every_verb_has_its_line_of_help() -> None:
    assert all(f"  {name}" in faults.grammar() for name in faults.VERBS)
