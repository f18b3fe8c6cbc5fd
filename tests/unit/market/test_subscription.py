"""StreamSubscription: nothing is released early, nothing waits for nobody, and overruns are counted once a turn."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.exceptions import StrategyError
from tests.support.reactive import wait_until
from trading.market.subscription import MODES, StreamSubscription

TIMED = ("clock-driven", "live")


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("mode", ["", "Live", "data_driven", "backtest"])
def test_unknown_mode_is_refused(mode: str) -> None:
    with pytest.raises(ValueError, match="data-driven, clock-driven, live"):
        StreamSubscription(mode, "s")


@pytest.mark.parametrize("mode", MODES)
def test_who_was_not_notified_is_ready_and_waited_for_by_nobody(mode: str) -> None:
    subscription = StreamSubscription(mode, "s")
    assert subscription.is_ready()
    assert subscription.wait_until_ready(0.0)
    assert subscription.get_overrun_count() == 0


@pytest.mark.parametrize("mode", MODES)
def test_three_notifications_of_one_bar_release_after_the_third_and_are_no_overrun(mode: str) -> None:
    subscription = StreamSubscription(mode, "s")
    done = 0
    for _bar in range(10):
        for _interval in ("1m", "5m", "15m"):
            subscription.notify()
        for left in (2, 1, 0):
            assert not subscription.is_ready()
            subscription.signal_ready()
            done += 1
            assert subscription.outstanding == left
        assert subscription.wait_until_ready(0.0)
        assert done % 3 == 0
        subscription.reset()
    assert subscription.get_overrun_count() == 0


@pytest.mark.parametrize("mode", MODES)
def test_wait_is_not_released_before_the_last_of_three(mode: str) -> None:
    subscription = StreamSubscription(mode, "s")
    released: list[int] = []
    worked: list[int] = []
    for _ in range(3):
        subscription.notify()

    def wait() -> None:
        subscription.wait_until_ready(10.0)
        released.append(len(worked))

    waiter = in_thread(wait)
    for number in range(3):
        worked.append(number)
        subscription.signal_ready()
    waiter.join(10.0)
    assert released == [3]


@pytest.mark.parametrize("mode", TIMED)
def test_wait_that_times_out_is_an_overrun_once_a_turn(mode: str) -> None:
    subscription = StreamSubscription(mode, "s")
    subscription.notify()
    assert not subscription.wait_until_ready(0.001)
    assert not subscription.wait_until_ready(0.001)
    assert subscription.get_overrun_count() == 1


@pytest.mark.parametrize("mode", TIMED)
def test_notified_while_an_earlier_turn_is_undone_is_an_overrun_once_a_turn(mode: str) -> None:
    subscription = StreamSubscription(mode, "s")
    subscription.notify()
    subscription.reset()
    subscription.notify()
    subscription.notify()
    assert subscription.get_overrun_count() == 1
    for _ in range(3):
        subscription.signal_ready()
    subscription.reset()
    subscription.notify()
    assert subscription.get_overrun_count() == 1


def test_work_of_an_earlier_turn_is_counted_as_done_first() -> None:
    subscription = StreamSubscription("live", "s")
    subscription.notify()
    subscription.reset()
    subscription.notify()  # overrun of this turn
    subscription.signal_ready()  # the old one
    subscription.reset()
    subscription.notify()  # the second turn's is still undone
    assert subscription.get_overrun_count() == 2


def test_stale_signals_do_not_make_later_work_ready() -> None:
    subscription = StreamSubscription("clock-driven", "s")
    subscription.signal_ready()
    subscription.signal_ready()
    subscription.notify()
    assert not subscription.is_ready()
    assert subscription.get_overrun_count() == 0


def test_data_driven_wait_ignores_its_timeout() -> None:
    subscription = StreamSubscription("data-driven", "s")
    subscription.notify()
    released = threading.Event()

    def wait() -> None:
        subscription.wait_until_ready(0.001)
        released.set()

    in_thread(wait)
    assert not released.wait(0.1)
    subscription.signal_ready()
    assert released.wait(10.0)
    assert subscription.get_overrun_count() == 0


def test_data_driven_wait_notices_that_the_worker_died() -> None:
    alive = True
    subscription = StreamSubscription("data-driven", "strategy:x", is_alive=lambda: alive, look_every_s=0.001)
    subscription.notify()
    found: list[BaseException] = []

    def wait() -> None:
        try:
            subscription.wait_until_ready()
        except StrategyError as error:
            found.append(error)

    waiter = in_thread(wait)
    alive = False
    waiter.join(10.0)
    assert len(found) == 1
    assert "strategy:x" in str(found[0])
    assert "1 notification" in str(found[0])


def test_worker_that_ended_right_after_its_last_work_is_no_fault() -> None:
    subscription = StreamSubscription("data-driven", "s", look_every_s=0.001)

    def dies_after_finishing() -> bool:
        subscription.signal_ready()
        return False

    subscription._is_alive = dies_after_finishing
    subscription.notify()
    assert subscription.wait_until_ready()


def test_long_data_driven_wait_is_told_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    subscription = StreamSubscription("data-driven", "processor->x", look_every_s=0.001, warn_every_s=0.002)
    subscription.notify()
    with caplog.at_level(logging.WARNING, logger="trading.market.subscription"):
        waiter = in_thread(subscription.wait_until_ready)
        wait_until(lambda: len(caplog.records) >= 3)
        subscription.signal_ready()
        waiter.join(10.0)
    assert "processor->x" in caplog.text
    assert "outstanding=1" in caplog.text


@pytest.mark.parametrize("mode", MODES)
def test_closing_ends_waits_without_an_overrun(mode: str) -> None:
    subscription = StreamSubscription(mode, "s")
    subscription.notify()
    answers: list[bool] = []
    waiter = in_thread(lambda: answers.append(subscription.wait_until_ready(10.0)))
    subscription.close()
    waiter.join(10.0)
    assert answers == [False]
    assert subscription.wait_until_ready(10.0) is False
    assert subscription.get_overrun_count() == 0


@given(st.lists(st.sampled_from(["notify", "ready", "reset"]), max_size=60), st.sampled_from(TIMED))
def test_counts_obey_their_laws_whatever_comes(steps: list[str], mode: str) -> None:
    subscription = StreamSubscription(mode, "s")
    notified = done = turns = 0
    for step in steps:
        if step == "notify":
            subscription.notify()
            notified += 1
        elif step == "ready":
            subscription.signal_ready()
            done = min(done + 1, notified)
        else:
            subscription.reset()
            turns += 1
        assert subscription.outstanding == notified - done
        assert subscription.is_ready() == (notified == done)
        assert subscription.get_overrun_count() <= turns


def test_many_threads_lose_no_count() -> None:
    subscription = StreamSubscription("data-driven", "s")
    each = 2_000

    def notify() -> None:
        for _ in range(each):
            subscription.notify()

    makers = [in_thread(notify) for _ in range(4)]
    for maker in makers:
        maker.join(20.0)
    assert subscription.outstanding == 4 * each

    def work() -> None:
        for _ in range(each):
            subscription.signal_ready()

    workers = [in_thread(work) for _ in range(4)]
    began = time.monotonic()
    assert subscription.wait_until_ready()
    assert time.monotonic() - began < 20.0
    for worker in workers:
        worker.join(20.0)
    assert subscription.is_ready()
