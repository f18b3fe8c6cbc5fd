"""Who hears what, and what each request is answered."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from tests.unit.gateway.wire_fake import AAPL, CONTRACT_FIELDS, NOW, Bench, execution, heard, held, ids, order
from trading.gateway import model
from trading.gateway.session import Session


def test_start_tells_accounts_then_next_id_then_farms() -> None:
    bench = Bench()
    session = Session(version=178)
    frames = bench.say(session, "71", "2", "7", "")
    assert ids(frames) == ["15", "9", "4", "4", "4"]
    assert frames[0] == ["15", "1", "DU1"]
    assert frames[1] == ["9", "1", "107"]
    assert [fields[3] for fields in frames[2:]] == ["2104", "2106", "2158"]


def test_client_id_in_use_is_refused_with_326_and_closed() -> None:
    bench = Bench()
    bench.connect(7)
    second = Session(version=178)
    assert bench.say(second, "71", "2", "7", "")[0][3] == "326"
    assert second.closing
    bench.hub.leave(second)
    assert 7 in bench.context.sessions


def test_client_id_is_free_again_after_its_client_left() -> None:
    bench = Bench()
    bench.hub.leave(bench.connect(7))
    assert bench.connect(7).started


def test_client_above_the_limit_is_refused_and_closed() -> None:
    bench = Bench(max_clients=2)
    bench.connect(1)
    bench.connect(2)
    third = Session(version=178)
    assert bench.say(third, "71", "2", "3", "")[0][3] == "502"
    assert third.closing


def test_request_before_start_is_refused() -> None:
    bench = Bench()
    assert bench.say(Session(version=178), "49", "1")[0][3] == "504"


def test_orders_and_fills_reach_own_client_and_master_only() -> None:
    bench = Bench()
    master, owner, other = bench.connect(0), bench.connect(1), bench.connect(2)
    paid = model.Commission(execution().exec_id, Decimal(1), "USD", None, 1)
    bench.venue.due = [model.OrderChanged(order(1)), model.Executed(execution(1)), model.CommissionReported(paid)]
    bench.tick()
    assert ids(heard(owner)) == ["5", "3", "11", "59"]
    assert ids(heard(master)) == ["5", "3", "11", "59"]
    assert heard(other) == []


def test_without_master_id_client_0_hears_only_its_own() -> None:
    bench = Bench(master_client_id=None)
    zero, owner = bench.connect(0), bench.connect(1)
    bench.venue.due = [model.Executed(execution(1))]
    bench.tick()
    assert heard(zero) == []
    assert ids(heard(owner)) == ["11"]


def test_order_errors_are_private_to_the_owner() -> None:
    bench = Bench()
    master, owner = bench.connect(0), bench.connect(1)
    bench.venue.due = [model.OrderError(1, 5, 201, "Order rejected - reason:margin")]
    bench.tick()
    assert heard(master) == []
    assert heard(owner) == [["4", "2", "5", "201", "Order rejected - reason:margin", ""]]


def test_binding_is_told_to_client_0_alone_before_the_list_of_its_orders() -> None:
    bench = Bench()
    zero, owner = bench.connect(0), bench.connect(1)
    bench.venue.bindable = [model.OrderBound(777, 0, -1), model.OrderChanged(order(0, -1))]
    frames = bench.say(zero, "5", "1")
    assert frames[0] == ["100", "777", "0", "-1"]
    assert ids(frames)[-1] == "53"
    assert ids(frames).count("5") == 0  # the list says what openOrder would
    bench.say(owner, "5", "1")
    assert "100" not in ids(heard(owner))


def test_auto_binding_lasts_as_long_as_client_0() -> None:
    bench = Bench()
    zero = bench.connect(0)
    assert bench.say(zero, "15", "1", "1") == []
    assert bench.venue.wishes == [True]
    bench.hub.leave(zero)
    assert bench.venue.wishes == [True, False]
    assert bench.say(bench.connect(1), "15", "1", "1")[0][3] == "327"


def test_modified_order_is_spelled_anew_after_its_fills_were_spelled_from_memory() -> None:
    bench = Bench()
    owner = bench.connect(1)
    first = order(1)
    changed = replace(first, request=replace(first.request, limit_price=Decimal("190.25")))
    bench.venue.due = [
        model.OrderChanged(first),
        model.OrderChanged(replace(first, status="PreSubmitted")),
        model.OrderChanged(changed),
    ]
    bench.tick()
    opened = [fields for fields in heard(owner) if fields[0] == "5"]
    assert ["187.50" in fields for fields in opened] == [True, True, False]
    assert "190.25" in opened[2]
    assert "PreSubmitted" in opened[1]


def test_positions_reach_every_subscriber_once_per_batch() -> None:
    bench = Bench()
    first, second, silent = bench.connect(1), bench.connect(2), bench.connect(3)
    assert ids(bench.say(first, "61", "1")) == ["61", "62"]
    assert ids(bench.say(second, "74", "1", "9", "DU1", "")) == ["71", "72"]
    bench.venue.due = [model.PositionChanged(AAPL.con_id)] * 3
    bench.tick()
    assert ids(heard(first)) == ["61"]
    assert ids(heard(second)) == ["71"]
    assert heard(silent) == []


def test_closed_position_is_reported_with_quantity_zero() -> None:
    bench = Bench()
    session = bench.connect(1)
    bench.say(session, "61", "1")
    bench.venue.rows = []
    bench.venue.due = [model.PositionChanged(AAPL.con_id)]
    bench.tick()
    (row,) = heard(session)
    assert (row[3], row[4], row[-2]) == ("265598", "AAPL", "0")


def test_cancelled_position_subscription_is_silent() -> None:
    bench = Bench()
    session = bench.connect(1)
    bench.say(session, "61", "1")
    bench.say(session, "64", "1")
    bench.venue.due = [model.PositionChanged(AAPL.con_id)]
    bench.tick()
    assert heard(session) == []


def test_account_updates_begin_with_a_download_and_end_it() -> None:
    bench = Bench()
    session = bench.connect(1)
    assert ids(bench.say(session, "6", "2", "1", "DU1")) == ["6", "6", "7", "8", "54"]


def test_account_values_follow_changes_at_most_once_a_second() -> None:
    bench = Bench()
    session = bench.connect(1)
    bench.say(session, "6", "2", "1", "")
    bench.tick()
    heard(session)
    bench.venue.cash = Decimal(900)
    bench.venue.due = [model.AccountChanged()]
    bench.tick(0.2)
    bench.tick(0.5)
    assert heard(session) == [["6", "2", "CashBalance", "900", "USD", "DU1"]]
    bench.venue.due = [model.AccountChanged()]
    bench.venue.cash = Decimal(800)
    bench.tick(0.1)
    assert heard(session) == []
    bench.tick(1)
    assert [fields[3] for fields in heard(session)] == ["800"]


def test_account_download_is_repeated_every_three_minutes() -> None:
    bench = Bench()
    session = bench.connect(1)
    bench.say(session, "6", "2", "1", "")
    bench.tick(179)
    assert heard(session) == []
    bench.tick(1)
    assert ids(heard(session)) == ["6", "6", "7", "8"]


def test_account_updates_of_an_unknown_account_are_refused() -> None:
    bench = Bench()
    assert bench.say(bench.connect(1), "6", "2", "1", "U999")[0][3] == "321"


def test_third_account_summary_is_refused_and_the_first_two_update() -> None:
    bench = Bench()
    session = bench.connect(1)
    for req_id in ("1", "2"):
        assert ids(bench.say(session, "62", "1", req_id, "All", "NetLiquidation")) == ["63", "64"]
    assert bench.say(session, "62", "1", "3", "All", "NetLiquidation")[0][2:4] == ["3", "322"]
    bench.venue.cash = Decimal(5)
    bench.venue.due = [model.AccountChanged()]
    bench.tick(2)
    assert [(fields[0], fields[2]) for fields in heard(session)] == [("63", "1"), ("63", "2")]
    bench.say(session, "63", "1", "1")
    assert ids(bench.say(session, "62", "1", "3", "All", "NetLiquidation")) == ["63", "64"]


def test_pnl_comes_at_once_and_every_second_until_cancelled() -> None:
    bench = Bench()
    session = bench.connect(1)
    assert bench.say(session, "92", "5", "DU1", "") == [["94", "5", "1", "2", "3"]]
    assert bench.say(session, "94", "6", "DU1", "", "265598") == [["95", "6", "40", "1", "2", "3", "7500"]]
    bench.tick(1)
    bench.tick(0.1)
    assert ids(heard(session)) == ["94", "95"]
    bench.say(session, "93", "5")
    bench.say(session, "95", "6")
    bench.tick(1)
    assert heard(session) == []
    assert bench.say(session, "93", "5")[0][3] == "10185"


def test_ticks_begin_with_type_and_parameters_and_then_tell_changes_only() -> None:
    bench = Bench()
    session = bench.connect(1)
    frames = bench.say(session, "1", "11", "5", *CONTRACT_FIELDS, "0", "233", "0", "0", "")
    assert ids(frames)[:2] == ["58", "81"]
    prices = {fields[3]: fields[4] for fields in frames if fields[0] == "1"}
    assert prices == {"1": "187.49", "2": "-1", "4": "187.5", "6": "190", "7": "180", "9": "184", "14": "185"}
    assert "48" in [fields[3] for fields in frames if fields[0] == "46"]
    bench.tick()
    assert heard(session) == []
    bench.venue.bid = Decimal("187.48")
    bench.tick()
    assert heard(session) == [["1", "6", "5", "1", "187.48", "100", "0"]]


def test_stream_that_the_venue_refuses_ends_with_its_error_and_no_other_does() -> None:
    bench = Bench()
    session = bench.connect(1)
    bench.say(session, "1", "11", "5", *CONTRACT_FIELDS, "0", "", "0", "0", "")
    bench.say(session, "92", "6", "DU1", "")
    bench.venue.withdrawn = True
    bench.tick()
    assert [fields[:4] for fields in heard(session)] == [["4", "2", "5", "200"], ["94", "6", "1", "2"]]
    bench.tick()
    assert ids(heard(session)) == ["94"]


def test_congested_reader_gets_no_ticks_but_its_fills() -> None:
    bench = Bench()
    session = bench.connect(1)
    bench.say(session, "1", "11", "5", *CONTRACT_FIELDS, "0", "", "0", "0", "")
    session.congested = True
    bench.venue.bid = Decimal("187.48")
    bench.venue.due = [model.Executed(execution(1))]
    bench.tick()
    assert ids(heard(session)) == ["11"]


def test_snapshot_ends_and_leaves_no_subscription() -> None:
    bench = Bench()
    session = bench.connect(1)
    frames = bench.say(session, "1", "11", "5", *CONTRACT_FIELDS, "0", "", "1", "0", "")
    assert frames[-1] == ["57", "1", "5"]
    assert bench.say(session, "2", "2", "5")[0][2:4] == ["5", "300"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (["2", "2", "77"], "300"),
        (["51", "1", "77"], "300"),
        (["25", "1", "77"], "366"),
        (["59", "1", "9"], "321"),
        (["999", "1"], "505"),
        (["10", "5", "77", *CONTRACT_FIELDS, "5", "1", ""], "354"),
        (["10", "5", "77"], "320"),
        (["9", "8", "77", "0", "NOPE", "STK", "", "0", "", "", "SMART", "", "USD", "", "", "0", "", "", ""], "200"),
        (["9", "8", "77", "0", "NOPE", "STK"], "320"),
        (["15", "1", "1"], "327"),
        (["7", "3", "77", "0", "", "yesterday", "", "", "", ""], "321"),
    ],
)
def test_request_that_cannot_be_served_is_answered_with_ibs_code(fields: list[str], code: str) -> None:
    bench = Bench()
    (answer,) = bench.say(bench.connect(1), *fields)
    assert (answer[0], answer[3]) == ("4", code)
    assert answer[2] in {"77", "-1"}


def test_duplicate_ticker_id_is_refused() -> None:
    bench = Bench()
    session = bench.connect(1)
    request = ["1", "11", "5", *CONTRACT_FIELDS, "0", "", "0", "0", ""]
    bench.say(session, *request)
    assert bench.say(session, *request)[0][3] == "102"


def test_ambiguous_contract_is_refused_where_one_is_needed() -> None:
    bench = Bench()
    session = bench.connect(1)
    twin = ["0", "TWIN", *CONTRACT_FIELDS[2:]]
    (answer,) = bench.say(session, "1", "11", "5", *twin, "0", "", "0", "0", "")
    assert answer[3] == "200"
    assert "ambiguous" in answer[4]


def test_failing_venue_costs_one_request_not_the_session() -> None:
    bench = Bench()
    session = bench.connect(1)
    boom = ["0", "BOOM", *CONTRACT_FIELDS[2:]]
    assert bench.say(session, "1", "11", "5", *boom, "0", "", "0", "0", "")[0][2:4] == ["5", "322"]
    assert ids(bench.say(session, "49", "1")) == ["49"]


def test_open_orders_are_own_and_all_open_orders_are_everyones() -> None:
    bench = Bench()
    session = bench.connect(1)
    assert ids(bench.say(session, "5", "1")) == ["5", "3", "53"]
    assert ids(bench.say(session, "16", "1")) == ["5", "3", "5", "3", "53"]
    assert ids(bench.say(session, "99", "0")) == ["101", "102"]


def test_client_0_may_bind_manual_orders() -> None:
    bench = Bench()
    zero = bench.connect(0)
    assert bench.say(zero, "15", "1", "1") == []
    assert zero.auto_bind


def test_executions_come_with_known_commissions_and_an_end() -> None:
    bench = Bench()
    frames = bench.say(bench.connect(1), "7", "3", "77", "0", "", "20260302-09:30:00", "", "", "", "")
    assert ids(frames) == ["11", "59", "11", "55"]
    assert frames[0][1] == "77"
    asked = bench.venue.filters[-1]
    assert (asked.client_id, asked.since) == (0, NOW.replace(hour=9, minute=30))


def test_strict_executions_give_plain_clients_only_their_own() -> None:
    bench = Bench(strict_executions=True)
    bench.say(bench.connect(3), "7", "3", "77", "0", "", "", "", "", "", "")
    bench.say(bench.connect(0), "7", "3", "77", "0", "", "", "", "", "", "")
    assert [asked.client_id for asked in bench.venue.filters] == [3, 0]


def test_unreadable_order_reaches_no_venue() -> None:
    bench = Bench()
    (answer,) = bench.say(bench.connect(1), "3", "42", *CONTRACT_FIELDS, "", "", "BUY", "100", "MKT")
    assert answer[2:4] == ["42", "320"]
    assert bench.venue.placed == []


def test_cancel_carries_the_own_client_id() -> None:
    bench = Bench()
    (answer,) = bench.say(bench.connect(4), "4", "1", "9", "")
    assert bench.venue.cancelled == [(4, 9)]
    assert answer[2:4] == ["9", "202"]


def test_history_is_dated_in_the_exchanges_zone_or_in_epoch_seconds() -> None:
    bench = Bench()
    session = bench.connect(1)
    tail = ["0", "", "1 min", "1 D", "1", "TRADES"]
    (text,) = bench.say(session, "20", "5", *CONTRACT_FIELDS, *tail, "1", "0", "")
    assert text[4:6] == ["3", "20260302 09:57:00 US/Eastern"]
    (epoch,) = bench.say(session, "20", "6", *CONTRACT_FIELDS, *tail, "2", "0", "")
    assert epoch[5] == str(int((NOW - timedelta(minutes=3)).timestamp()))
    daily = ["0", "", "1 day", "1 M", "1", "TRADES", "2"]
    (dates,) = bench.say(session, "20", "7", *CONTRACT_FIELDS, *daily, "0", "")
    assert dates[5] == "20260302"


@pytest.mark.parametrize(
    ("end", "bar_size", "duration", "keep", "code"),
    [
        ("", "1 min", "0 D", "0", "162"),
        ("junk", "1 min", "1 D", "0", "321"),
        ("", "7 fortnights", "1 D", "0", "321"),
        ("20260302 10:00:00 US/Eastern", "1 min", "1 D", "1", "321"),
        ("20260302 10:00:00 Mars/Base", "1 min", "1 D", "0", "321"),
    ],
)
def test_history_that_cannot_be_given_is_refused(end: str, bar_size: str, duration: str, keep: str, code: str) -> None:
    bench = Bench()
    session = bench.connect(1)
    (answer,) = bench.say(
        session, "20", "5", *CONTRACT_FIELDS, "0", end, bar_size, duration, "1", "TRADES", "1", keep, ""
    )
    assert answer[2:4] == ["5", code]


def test_continued_history_grows_its_last_bar_and_opens_the_next() -> None:
    bench = Bench()
    session = bench.connect(1)
    bench.say(session, "20", "5", *CONTRACT_FIELDS, "0", "", "1 min", "1 D", "1", "TRADES", "2", "1", "")
    bench.venue.closed_bars = 1
    bench.tick(5)
    (opened,) = heard(session)
    assert opened[:4] == ["90", "5", "3", str(int(NOW.timestamp()))]
    bench.venue.closed_bars = 2
    bench.tick(5)
    (grown,) = heard(session)
    assert (grown[2], grown[3], grown[-1]) == ("6", str(int(NOW.timestamp())), "20")
    bench.tick(1)
    assert heard(session) == []
    bench.say(session, "25", "1", "5")
    bench.venue.closed_bars = 3
    bench.tick(5)
    assert heard(session) == []


def test_real_time_bars_come_once_each_when_they_close() -> None:
    bench = Bench()
    session = bench.connect(1)
    bench.venue.closed_bars = 1
    assert bench.say(session, "50", "3", "5", *CONTRACT_FIELDS, "5", "TRADES", "1", "") == []
    bench.tick(1)
    assert heard(session) == []
    bench.venue.closed_bars = 2
    bench.tick(1)
    bench.tick(1)
    (bar,) = heard(session)
    assert bar[:4] == ["50", "3", "5", str(int((NOW + timedelta(seconds=10)).timestamp()))]


def test_bars_that_closed_between_two_looks_all_come_in_order() -> None:
    bench = Bench()
    session = bench.connect(1)
    bench.venue.closed_bars = 1
    bench.say(session, "50", "3", "5", *CONTRACT_FIELDS, "5", "TRADES", "1", "")
    bench.venue.closed_bars = 4
    bench.tick(15)
    assert [int(fields[3]) - int(NOW.timestamp()) for fields in heard(session)] == [10, 15, 20]
    bench.venue.closed_bars = 4000
    bench.tick(1)
    assert [int(fields[3]) - int(NOW.timestamp()) for fields in heard(session)] == [20_000]


def test_head_timestamp_in_both_formats() -> None:
    bench = Bench()
    session = bench.connect(1)
    assert bench.say(session, "87", "5", *CONTRACT_FIELDS, "0", "1", "TRADES", "1") == [
        ["88", "5", "20200102-14:30:00"]
    ]
    assert bench.say(session, "87", "5", *CONTRACT_FIELDS, "0", "1", "TRADES", "2") == [["88", "5", "1577975400"]]


def test_hundredth_and_first_ticker_line_is_refused() -> None:
    bench = Bench()
    session, other = bench.connect(1), bench.connect(2)
    bench.say(session, "1", "11", "5", *CONTRACT_FIELDS, "0", "", "0", "0", "")
    line = session.ticks.pop(5)
    session.ticks.update({number: replace(line, con_id=number) for number in range(100)})
    assert bench.say(other, "1", "11", "5", *CONTRACT_FIELDS, "0", "", "0", "0", "")[0][3] == "101"


def test_two_summaries_of_positions_rows_use_the_same_row() -> None:
    bench = Bench()
    session = bench.connect(1)
    (row, _) = bench.say(session, "61", "1")
    assert row[-2:] == ["40", f"{held().average_cost}"]
