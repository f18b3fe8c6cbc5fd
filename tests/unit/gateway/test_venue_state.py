"""The venue's memory: a restart at any moment is as if it had never stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.exceptions import ConfigError
from tests.unit.gateway.venue_desk import AAPL, SECOND, SPY, SPY_ID, START, order, run, venue
from trading.gateway import persistence
from trading.gateway.exchange import Exchange, VenueOptions, build_venue
from trading.gateway.model import Contract, ExecutionFilter


def everything(exchange: Exchange, now: datetime) -> dict[str, object]:
    """All that a client could ask about orders and account."""
    return {
        "open": exchange.open_orders(),
        "completed": sorted(exchange.completed_orders(api_only=False), key=lambda o: o.perm_id),
        "executions": exchange.executions(ExecutionFilter()),
        "positions": sorted(exchange.positions(now), key=lambda p: p.contract.con_id),
        "values": exchange.account_values(now),
        "pnl": exchange.pnl(now),
        "refs": dict(exchange.received_order_refs),
        "ids": [exchange.next_order_id(client) for client in (1, 2, 3)],
        "quote": exchange.quote(SPY_ID, now),
    }


def crashed(path: Path, **options: object) -> Exchange:
    """A second venue from the files that a killed one left behind."""
    return build_venue(VenueOptions(state_file=path, **options))  # type: ignore[arg-type]


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("market"), st.sampled_from([SPY, AAPL]), st.sampled_from(["BUY", "SELL"]), st.integers(1, 2000)
        ),
        st.tuples(st.just("limit"), st.just(SPY), st.sampled_from(["BUY", "SELL"]), st.integers(-30, 30)),
        st.tuples(st.just("cancel"), st.just(SPY), st.just("BUY"), st.integers(1, 8)),
        st.tuples(st.just("wait"), st.just(SPY), st.just("BUY"), st.integers(1, 3000)),
        st.tuples(st.just("save"), st.just(SPY), st.just("BUY"), st.just(0)),
    ),
    max_size=14,
)


@settings(max_examples=20, deadline=None)
@given(steps, st.integers(0, 14))
def test_a_restart_is_as_if_it_had_never_stopped(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[str, Contract, str, int]], stop_after: int
) -> None:
    path = tmp_path_factory.mktemp("state") / "state.json"
    steady, broken = venue(), venue(state_file=path)
    now, order_id = START, 0
    for number, (what, contract, action, amount) in enumerate(plan):
        if number == stop_after:
            broken = crashed(path)
        for exchange in (steady, broken):
            if what == "market":
                exchange.place(order(order_id + 1, action, amount, contract=contract), now)
            elif what == "limit":
                price = exchange.quote(SPY_ID, now).last
                assert price is not None
                limit = price + Decimal(amount) / 100
                exchange.place(order(order_id + 1, action, order_type="LMT", limit_price=limit, tif="GTC"), now)
            elif what == "cancel":
                exchange.cancel(1, amount, now)
            elif what == "wait":
                exchange.advance(now + timedelta(milliseconds=amount))
            else:
                exchange.save()
        order_id += what in ("market", "limit")
        now += timedelta(milliseconds=amount if what == "wait" else 0)
    broken = crashed(path)
    now += SECOND
    for exchange in (steady, broken):
        exchange.advance(now)
    seen, expected = everything(broken, now), everything(steady, now)
    assert seen == expected


def test_a_resting_order_fills_by_what_happened_while_the_venue_was_down(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    before = venue(state_file=path)
    price = before.quote(SPY_ID, START).last
    assert price is not None
    before.place(order(1, order_type="LMT", limit_price=price - Decimal("0.10")), START)
    before.advance(START + timedelta(milliseconds=50))
    assert before.open_orders()
    after = crashed(path)
    run(after, START + 600 * SECOND, START + 601 * SECOND)
    assert after.open_orders() == []


def test_a_stop_that_was_triggered_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    before = venue(state_file=path, market="synthetic", speed=1)
    price = before.quote(SPY_ID, START).last
    assert price is not None
    before.place(order(1, "BUY", 4000, order_type="STP", aux_price=price), START)
    working = before.open_orders()[0]
    assert 0 < working.filled < 4000
    moment = START + 900 * SECOND
    after, steady = crashed(path, market="synthetic", speed=1), before
    for exchange in (after, steady):
        run(exchange, START, moment, SECOND)
    assert everything(after, moment) == everything(steady, moment)


def test_a_commission_that_was_not_told_is_told_after_the_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    venue(state_file=path).place(order(1), START)
    after = crashed(path)
    assert [type(e).__name__ for e in after.advance(START + SECOND)] == ["CommissionReported"]
    assert after.advance(START + 2 * SECOND) == []
    assert crashed(path).advance(START + 3 * SECOND) == []


def test_a_torn_last_line_is_dropped_and_writing_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    venue(state_file=path).place(order(1), START)
    journal = path.with_name("state.json.journal")
    with journal.open("ab") as stream:
        stream.write(b'[99,"exec","6b0')
    after = crashed(path)
    after.place(order(2), START + SECOND)
    assert [p.quantity for p in crashed(path).positions(START + SECOND)] == [200]


def test_dying_between_snapshot_and_cut_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    before = venue(state_file=path)
    before.place(order(1), START)
    journal = path.with_name("state.json.journal")
    kept = journal.read_bytes()
    before.save()
    journal.write_bytes(kept)
    after = crashed(path)
    assert [p.quantity for p in after.positions(START)] == [100]
    assert len(after.executions(ExecutionFilter())) == 1
    after.place(order(2), START)
    assert [p.quantity for p in crashed(path).positions(START)] == [200]


def test_ids_of_another_life_are_other_ids(tmp_path: Path) -> None:
    first, second = venue(), build_venue(VenueOptions())
    second.advance(START + 3600 * SECOND)
    first.place(order(1), START)
    second.place(order(1), START + 3600 * SECOND)
    (a, _), (b, _) = first.executions(ExecutionFilter())[0], second.executions(ExecutionFilter())[0]
    assert a.exec_id != b.exec_id
    assert 0 < a.perm_id < b.perm_id < 2**31


def test_two_replays_of_the_same_bars_have_different_ids() -> None:
    ids = set()
    for wall in (START, START + 600 * SECOND):
        exchange = build_venue(VenueOptions(clock="replay"))
        now = exchange.market_now(wall)
        exchange.place(order(1), now)
        execution, _ = exchange.executions(ExecutionFilter())[0]
        ids |= {execution.exec_id, execution.perm_id}
    assert len(ids) == 4


def test_another_speed_goes_on_at_the_same_price(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    moment = START + 1234 * SECOND
    slow = venue(state_file=path, speed=30)
    fast = crashed(path, speed=600)
    assert fast.quote(SPY_ID, moment).last == slow.quote(SPY_ID, moment).last
    later = moment + SECOND
    assert fast.quote(SPY_ID, later).last == slow.quote(SPY_ID, moment + 20 * SECOND).last


def test_a_damaged_file_is_said_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("{broken")
    with pytest.raises(ConfigError, match="damaged"):
        crashed(path)
    assert path.read_text() == "{broken"


def test_a_file_of_another_version_or_account_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    venue(state_file=path).save()
    with pytest.raises(ConfigError, match="belongs to account DU1000001"):
        crashed(path, account="DU2")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "version": 99}))
    with pytest.raises(ConfigError, match="version 99"):
        crashed(path)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        crashed(tmp_path / "file" / "state.json")


def test_the_journal_is_folded_into_the_snapshot_when_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "COMPACT_BYTES", 20_000)
    path = tmp_path / "state.json"
    exchange = venue(state_file=path)
    for number in range(1, 60):
        exchange.place(order(number, quantity=1), START)
    assert path.exists()
    assert path.with_name("state.json.journal").stat().st_size < 20_000
    assert everything(crashed(path), START) == everything(exchange, START)


def test_reset_removes_every_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    venue(state_file=path).save()
    persistence.remove(path)
    assert list(tmp_path.iterdir()) == []


CHILD = """
    import sys
    from datetime import timedelta
    from pathlib import Path
    from tests.unit.gateway.venue_desk import START, order, venue
    from trading.gateway.model import Executed
    exchange = venue(state_file=Path(sys.argv[1]))
    for number in range(1, 1_000_000):
        now = START + timedelta(milliseconds=number)
        for event in exchange.place(order(number, quantity=1), now) + exchange.advance(now):
            if isinstance(event, Executed):
                sys.stdout.write(event.execution.exec_id + "\\n")
                sys.stdout.flush()
        if number % 97 == 0:
            exchange.save()
"""


@pytest.mark.parametrize("announced", [2, 300])
def test_sigkill_loses_nothing_that_was_announced(tmp_path: Path, announced: int) -> None:
    path = tmp_path / "state.json"
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert child.stdout is not None
    heard = [child.stdout.readline().strip() for _ in range(announced)]
    for use in (crashed, persistence.remove):
        with pytest.raises(ConfigError, match="another running gateway"):
            use(path)
    child.send_signal(signal.SIGKILL)
    heard += [line.strip() for line in child.stdout if line.endswith("\n")]
    child.wait()
    after = crashed(path)
    after.advance(START + 3000 * SECOND)
    known = [execution.exec_id for execution, _ in after.executions(ExecutionFilter())]
    assert len(known) == len(set(known))
    assert set(heard) <= set(known)
    assert [p.quantity for p in after.positions(START)] == [len(known)]
    assert after.next_order_id(1) in (len(known) + 1, len(known) + 2)
    shutil.rmtree(tmp_path)
