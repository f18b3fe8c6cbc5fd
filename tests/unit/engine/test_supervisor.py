"""Lifecycle of strategies without their threads: moves, restarts, silence, client ids."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from strategies.exceptions import ConflictError, LoadError, MatsError, NotFoundError
from strategies.models import Strategy
from trading.engine.lifecycle import StrategyState
from trading.engine.runner import RestartBudget
from trading.engine.supervisor import Supervisor
from trading.models import StrategyRun

pytestmark = pytest.mark.django_db


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Puppet:
    """Stands where a strategy instance stands."""

    def __init__(self, symbol: str, client_id: int) -> None:
        self.symbol, self.client_id = symbol, client_id
        self.started = False
        self.stop_requests: list[float] = []

    def start_strategy(self) -> None:
        """Take note."""
        self.started = True

    def request_stop(self, timeout_s: float) -> None:
        """Take note."""
        self.stop_requests.append(timeout_s)


class Host:
    """Stands where the engine stands; remembers what was published."""

    def __init__(self) -> None:
        self.rows: list[StrategyRun] = []
        self.free = [1, 2, 3]
        self.trouble: Exception | None = None
        self.lines: list[str] = []

    def make_strategy(self, row: Strategy, client_id: int) -> Any:
        """Return a puppet, or fail as told."""
        if self.trouble is not None:
            raise self.trouble
        return Puppet(row.symbol, client_id)

    def acquire_client_id(self, row: Strategy) -> int:
        """Take the lowest."""
        return self.free.pop(0)

    def release_client_id(self, client_id: int) -> None:
        """Take back."""
        self.free = sorted([*self.free, client_id])

    def publish_run(self, row: StrategyRun) -> None:
        """Remember."""
        self.rows.append(row)

    def interrupt_connect(self, symbol: str) -> None:
        """Nothing to interrupt."""

    def forget_connection(self, symbol: str) -> None:
        """Nothing to forget."""

    def log(self, strategy_symbol: str, text: str, level: str = "info") -> None:
        """Remember."""
        self.lines.append(text)


@pytest.fixture
def clock() -> Clock:
    """The clock of the supervisor."""
    return Clock()


@pytest.fixture
def host() -> Host:
    """The engine's side."""
    return Host()


@pytest.fixture
def supervisor(host: Host, clock: Clock) -> Supervisor:
    """A supervisor of one strategy ALPHA that restarts twice an hour."""
    Strategy.objects.create(symbol="ALPHA", filename="alpha.py", target_weight=Decimal(0), max_restarts_per_hour=2)
    return Supervisor(host, clock)


def running(supervisor: Supervisor) -> Any:
    """Start ALPHA and have it report running; return the puppet."""
    runner = supervisor.start("ALPHA")
    supervisor.strategy_changed(runner.strategy, "running", "", "")
    return runner.strategy


def code_of(call: Any) -> str:
    """Return the code of the error that the call raises."""
    with pytest.raises(MatsError) as caught:
        call()
    return caught.value.code


def test_a_start_takes_the_lowest_client_id_and_is_told(supervisor: Supervisor, host: Host) -> None:
    puppet = running(supervisor)
    assert (puppet.client_id, puppet.started) == (1, True)
    assert host.rows[0].state == "starting"
    assert (host.rows[-1].state, host.rows[-1].client_id) == ("running", 1)


def test_symbols_are_found_whatever_their_case_and_unknown_ones_named(supervisor: Supervisor) -> None:
    assert supervisor.start("alpha").symbol == "ALPHA"
    with pytest.raises(NotFoundError):
        supervisor.start("BETA")


def test_a_second_start_is_refused_by_state(supervisor: Supervisor) -> None:
    running(supervisor)
    assert code_of(lambda: supervisor.start("ALPHA")) == "already_running"
    supervisor.request_stop("ALPHA", 1.0)
    assert code_of(lambda: supervisor.start("ALPHA")) == "strategy_stopping"
    supervisor.close()
    assert code_of(lambda: supervisor.start("ALPHA")) == "engine_stopping"


def test_a_stop_asks_once_and_the_id_comes_back_when_the_thread_ended(supervisor: Supervisor, host: Host) -> None:
    puppet = running(supervisor)
    supervisor.request_stop("ALPHA", 7.0)
    assert code_of(lambda: supervisor.request_stop("ALPHA", 7.0)) == "not_running"
    assert puppet.stop_requests == [7.0]
    assert host.free == [2, 3]
    supervisor.strategy_changed(puppet, "stopped", "", "")
    assert host.free == [1, 2, 3]
    assert host.rows[-1].state == "stopped"
    with pytest.raises(ConflictError, match="ALPHA is not running"):
        supervisor.request_stop("ALPHA", 7.0)


def test_a_file_that_cannot_be_loaded_fails_and_gives_the_id_back(supervisor: Supervisor, host: Host) -> None:
    host.trouble = LoadError("alpha.py is broken.", code="syntax_error")
    assert code_of(lambda: supervisor.start("ALPHA")) == "syntax_error"
    assert host.free == [1, 2, 3]
    assert (host.rows[-1].state, host.rows[-1].message) == ("failed", "alpha.py is broken.")
    supervisor.tick()
    assert supervisor.runner("ALPHA").restart_due is None


def test_a_constructor_that_raises_is_the_strategy_s_own_failure(supervisor: Supervisor, host: Host) -> None:
    host.trouble = KeyError("universe")
    assert code_of(lambda: supervisor.start("ALPHA")) == "load_error"
    assert "KeyError" in host.rows[-1].message


def test_failures_are_restarted_with_growing_delay_until_the_hour_s_budget_is_spent(
    supervisor: Supervisor, host: Host, clock: Clock
) -> None:
    delays = []
    puppet = running(supervisor)
    for _ in range(2):
        supervisor.strategy_changed(puppet, "failed", "ValueError: x", "trace")
        supervisor.tick()
        due = supervisor.runner("ALPHA").restart_due
        assert due is not None
        delays.append(due - clock.now)
        clock.now = due
        supervisor.tick()
        puppet = supervisor.runner("ALPHA").strategy
        assert puppet.started
    assert delays == [1.0, 2.0]
    supervisor.strategy_changed(puppet, "failed", "ValueError: x", "trace")
    supervisor.tick()
    assert supervisor.runner("ALPHA").restart_due is None
    assert "stays down after 2 restarts" in host.rows[-1].message
    assert host.rows[-1].restarts == 2


def test_a_stop_calls_a_planned_restart_off(supervisor: Supervisor) -> None:
    supervisor.strategy_changed(running(supervisor), "failed", "x", "")
    supervisor.tick()
    assert supervisor.request_stop("ALPHA", 1.0).state is StrategyState.STOPPED
    assert supervisor.runner("ALPHA").restart_due is None


def test_a_failure_while_stopping_is_not_restarted(supervisor: Supervisor) -> None:
    puppet = running(supervisor)
    supervisor.request_stop("ALPHA", 1.0)
    supervisor.strategy_changed(puppet, "failed", "x", "")
    supervisor.tick()
    assert supervisor.runner("ALPHA").restart_due is None


def test_silence_is_told_once_and_its_end_too(supervisor: Supervisor, host: Host, clock: Clock) -> None:
    puppet = running(supervisor)
    supervisor.beat(puppet)
    clock.now += 4.9
    supervisor.tick()
    assert host.rows[-1].message == ""
    clock.now += 0.2
    supervisor.tick()
    supervisor.tick()
    assert "does not answer" in host.rows[-1].message
    assert len([line for line in host.lines if "does not answer" in line]) == 1
    supervisor.beat(puppet)
    assert host.rows[-1].message == ""


def test_the_word_of_an_earlier_instance_is_ignored(supervisor: Supervisor) -> None:
    old = running(supervisor)
    supervisor.strategy_changed(old, "stopped", "", "")
    new = running(supervisor)
    supervisor.strategy_changed(old, "failed", "late", "")
    supervisor.beat(old)
    assert supervisor.runner("ALPHA").state is StrategyState.RUNNING
    assert supervisor.runner("ALPHA").strategy is new


def test_stop_all_has_one_deadline_and_tells_who_did_not_end(supervisor: Supervisor, clock: Clock) -> None:
    running(supervisor)
    assert supervisor.stop_all(0.0, 0.0) == {"ALPHA": False}


def test_the_restart_budget_forgets_after_an_hour() -> None:
    clock = Clock()
    budget = RestartBudget(clock)
    for _ in range(3):
        budget.spend()
    assert budget.next_delay(3) is None
    clock.now += 3601
    assert budget.next_delay(3) == 1.0


def test_a_stop_of_what_never_ran_is_refused(supervisor: Supervisor) -> None:
    with pytest.raises(ConflictError) as caught:
        supervisor.stop("ALPHA", 1.0, 1.0)
    assert caught.value.code == "not_running"
