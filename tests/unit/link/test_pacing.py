"""The budget of all connections: orders first, nothing above IB's limits, whatever the order of asking."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.exceptions import TransientError
from strategies.market_access import REQUEST_TIMEOUT_S
from trading.gateway.wire_history_pacing import BarRequest, HistoryPacer
from trading.ib import pacing
from trading.ib.history_span import SharedSpan
from trading.ib.paced import HOLD_HISTORY_S
from trading.ib.pacing import MAX_IN_SPAN, SLACK_S, Budget, HistoryAsk, HistoryPace


def bars(symbol: str = "SPY", end: str = "20261201-15:00:00", size: str = "5 secs", kind: str = "TRADES") -> HistoryAsk:
    return HistoryAsk(f"{symbol}{end}{size}{kind}", f"{symbol}{kind}", size, kind)


@given(st.lists(st.tuples(st.floats(0, 0.2), st.integers(0, 4), st.sampled_from([0, 4, 10])), max_size=300))
def test_no_second_ever_has_more_than_the_limits(steps: list[tuple[float, int, int]]) -> None:
    budget, now = Budget(messages_per_s=60), 0.0
    sent: list[tuple[float, int]] = []
    for pause, client_id, kept in steps:
        now += pause
        if budget.take(client_id, now, kept=kept) == 0:
            sent.append((now, client_id))
    for at, client_id in sent:
        second = [one for one in sent if at <= one[0] < at + 1]
        assert len(second) <= 60
        assert sum(1 for one in second if one[1] == client_id) <= pacing.PER_CONNECTION


def test_data_leaves_a_share_of_every_second_to_books_and_both_to_orders() -> None:
    budget = Budget()
    data = sum(1 for _ in range(100) if budget.take(1, 0.0, kept=pacing.KEPT_FROM_DATA) == 0)
    books = sum(1 for _ in range(100) if budget.take(3, 0.0, kept=pacing.KEPT_FROM_BOOKS) == 0)
    orders = sum(1 for _ in range(100) if budget.take(2, 0.0) == 0)
    assert (data, books, orders) == (35, 6, 4)
    assert budget.take(2, 0.5) == pytest.approx(pacing.WINDOW_S - 0.5)
    assert budget.take(2, pacing.WINDOW_S) == 0


def test_the_thirty_third_socket_is_never_tried() -> None:
    budget = Budget()
    for client_id in range(32):
        budget.open_socket(client_id)
    budget.open_socket(31)  # a second try of the same client is no second socket
    with pytest.raises(TransientError) as caught:
        budget.open_socket(32)
    assert caught.value.code == "client_limit"
    budget.close_socket(5)
    budget.open_socket(32)


def test_identical_small_bars_wait_fifteen_seconds_and_daily_ones_do_not() -> None:
    pace = HistoryPace()
    pace.take(bars(), (1, 1), 0.0)
    assert pace.wait_s(bars(), 5.0) == pytest.approx(10.0 + SLACK_S)
    assert pace.wait_s(bars(), 15.0 + SLACK_S) == 0
    daily = bars(size="1 day")
    pace.take(daily, (1, 2), 5.0)
    assert pace.wait_s(daily, 5.0) == 0


def test_the_same_request_never_reaches_ib_early_though_the_second_travels_faster_and_no_strategy_gives_up_on_it() -> (
    None
):
    pace, gateway = HistoryPace(), HistoryPacer()
    request = BarRequest(756733, "SMART", "TRADES", "20261201-15:00:00", "5 secs", "200 S", False)
    pace.take(bars(), (1, 1), 0.0)
    assert gateway.may_ask(request, 0.3)
    wait_s = pace.wait_s(bars(), 0.0)
    assert gateway.may_ask(request, wait_s + 0.001)
    assert wait_s < HOLD_HISTORY_S < REQUEST_TIMEOUT_S


def test_the_sixth_of_one_contract_within_two_seconds_waits() -> None:
    pace = HistoryPace()
    for number in range(5):
        assert pace.wait_s(bars(end=str(number)), 0.1 * number) == 0
        pace.take(bars(end=str(number)), (1, number), 0.1 * number)
    assert pace.wait_s(bars(end="5"), 0.5) == pytest.approx(1.5 + SLACK_S)
    assert pace.wait_s(bars("QQQ"), 0.5) == 0


def test_sixty_small_requests_in_ten_minutes_and_bid_ask_counts_twice() -> None:
    pace = HistoryPace()
    for number in range(29):
        pace.take(bars(f"S{number}", kind="BID_ASK"), (1, number), 0.0)
        pace.open.clear()
    assert pace.tokens(0.0) == 2
    assert pace.take(bars("LAST", kind="BID_ASK"), (1, 99), 1.0) == 0
    assert pace.wait_s(bars("ONE"), 2.0) == pytest.approx(598.0 + SLACK_S)
    assert pace.wait_s(bars("ONE"), 600.0 + SLACK_S) == 0


def test_the_fifty_first_open_request_waits_for_an_answer() -> None:
    budget = Budget()
    for number in range(50):
        assert budget.take_history(1, number, bars(f"S{number}", size="1 day"), 0.0) == 0
    assert budget.take_history(2, 1, bars("NEXT", size="1 day"), 0.0) > 0
    budget.end_history(1, 7)
    assert budget.take_history(2, 1, bars("NEXT", size="1 day"), 0.0) == 0


def test_what_a_connection_used_is_free_when_its_socket_is() -> None:
    budget = Budget()
    budget.open_socket(1)
    budget.open_line(1, 10)
    budget.open_line(1, 11)
    budget.close_line(1, 10)
    budget.take_history(1, 12, bars(), 0.0)
    assert budget.of_client(1, 0.0) == {"lines": 1, "messages": 0, "history_open": 1}
    budget.close_socket(1)
    figures = budget.figures(0.0)
    assert [figures[name]["used"] for name in ("sockets", "lines", "history_open")] == [0, 0, 0]
    assert figures["history"]["used"] == 1  # IB goes on counting


def test_processes_that_ask_at_the_same_moment_stay_within_the_sixty_together(tmp_path: Path) -> None:
    """Each thread has a span of its own, as a process has: a look and a count in two steps would let some through."""
    path, start = tmp_path / "history.span", threading.Barrier(8)
    taken: list[int] = []

    def ask() -> None:
        span = SharedSpan(path, 600.0)
        start.wait(30.0)
        taken.append(sum(span.take(1000.0, MAX_IN_SPAN) == 0 for _ in range(12)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60.0)
    assert sum(taken) == MAX_IN_SPAN
    assert SharedSpan(path, 600.0).take(1000.0, MAX_IN_SPAN, 2) == pytest.approx(600.0)


def test_engine_and_ingest_share_one_count_and_the_ingest_stops_earlier(tmp_path: Path) -> None:
    engine, ingest = (
        Budget(history_span=SharedSpan(tmp_path / "span", 600.5), small_bars=most) for most in (MAX_IN_SPAN, 50)
    )
    for number in range(48):
        assert engine.take_history(1, number, bars(f"S{number}"), 1.0) == 0
        engine.end_history(1, number)
    assert [ingest.take_history(800, n, bars(f"T{n}"), 2.0) == 0 for n in range(3)] == [True, True, False]
    assert engine.take_history(1, 99, bars("S99"), 3.0) == 0
    assert engine.figures(3.0)["history"]["used"] == 51
