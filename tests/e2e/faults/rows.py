"""Which test proves which row of the fault model of the link (rows 1 to 28: what IB, TWS and the line between can do).

``tests/architecture/test_fault_rows.py`` holds that every row has a test and every test named here exists.
"""

from __future__ import annotations

from dataclasses import dataclass

PLACES = ("link", "orders", "cut_everywhere", "greetings", "nights", "times", "pace")
LINK, ORDERS, CUTS, GREETINGS, NIGHTS, TIMES, PACE = (f"tests/e2e/faults/test_{name}.py::" for name in PLACES)
FILLS, RECONCILIATION, FLEX = (f"tests/e2e/engine/test_{name}.py::" for name in ("fills", "reconciliation", "flex"))
CONNECTION, GATEWAY = "tests/e2e/orders/test_connection.py::", "tests/e2e/gateway/test_gateway_ib_async.py::"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault, what MATS has to do, and the tests that say that it does."""

    fault: str
    behaviour: str
    tests: tuple[str, ...]


ROWS: dict[int, Row] = {
    1: Row(
        "socket cut in the middle of a message",
        "the rest is dropped, the day is asked for again",
        (
            CUTS + "test_books_are_exact_wherever_the_line_breaks",
            CUTS + "test_books_are_exact_after_a_cut_at_every_byte",
        ),
    ),
    2: Row(
        "half-open line",
        "it is noticed by asking and replaced",
        (
            LINK + "test_a_half_open_line_is_noticed_and_replaced",
            CONNECTION + "test_line_that_only_falls_silent_is_noticed",
            CONNECTION + "test_what_was_asked_on_a_line_that_we_drop_fails_at_once",
        ),
    ),
    3: Row(
        "1100", "no orders, fills are taken", (LINK + "test_fills_around_1100_are_booked_and_orders_wait_for_1102",)
    ),
    4: Row(
        "1101",
        "everybody follows what they followed, after a check orders flow",
        (LINK + "test_market_data_lost_with_1101_is_asked_for_again_by_everyone",),
    ),
    5: Row(
        "1102",
        "the books are compared all the same",
        (
            LINK + "test_what_was_lost_before_1102_is_found_by_asking",
            LINK + "test_reports_that_come_late_after_an_outage_count_once",
        ),
    ),
    6: Row(
        "nightly reset",
        "waited out quietly: no alert beyond a notice, no order, no state that comes and goes; then exact books",
        (
            NIGHTS + "test_a_night_of_losses_is_waited_out_quietly_and_ends_with_exact_books",
            NIGHTS + "test_a_night_without_end_is_quiet_until_its_window_ends_and_not_a_minute_longer",
            LINK + "test_a_night_of_restarts_and_refusals_ends_with_exact_books_and_no_order_sent_twice",
        ),
    ),
    7: Row(
        "weekend: logins refused for hours",
        "a person is called once, when the window is over; the login ends it",
        (
            NIGHTS + "test_a_weekend_without_a_login_calls_a_person_once_and_ends_with_the_login",
            LINK + "test_refused_logins_are_told_and_the_engine_comes_back_by_itself_when_they_end",
        ),
    ),
    8: Row(
        "reboot with order ids rolled back",
        "no id is used again, no order sent again",
        (LINK + "test_a_reboot_that_rolls_ids_back_right_after_a_send_reuses_none",),
    ),
    9: Row("report repeated", "counts once", (LINK + "test_a_report_repeated_a_thousand_times_counts_once",)),
    10: Row(
        "commission first, late, never",
        "joined whenever it comes, asked for again, alarm",
        (
            ORDERS + "test_commissions_and_statuses_in_any_order_or_none_leave_exact_books",
            RECONCILIATION + "test_commissions_that_do_not_come_hold_cash_back_and_are_alerted_until_they_do",
        ),
    ),
    11: Row(
        "correction",
        "replaces what it corrects, before and after a restart",
        (
            ORDERS + "test_a_correction_replaces_what_it_corrects_also_the_second_one",
            RECONCILIATION + "test_correction_that_came_while_the_engine_was_down_is_booked_after_the_restart",
        ),
    ),
    12: Row(
        "fill while nobody listens",
        "replayed once, with the time of its execution",
        (
            TIMES + "test_a_fill_that_nobody_heard_is_replayed_once_with_the_time_of_its_execution",
            FILLS + "test_fills_while_the_gateway_is_away_are_replayed_and_orders_flow_again",
            FILLS + "test_fills_while_the_engine_is_down_are_booked_at_the_next_start",
            RECONCILIATION + "test_execution_that_was_never_told_comes_with_the_replay_and_no_break_remains",
        ),
    ),
    13: Row(
        "away past midnight, or a day that IB forgot",
        "a break and an alert; nothing is taken back; the statement heals",
        (
            ORDERS + "test_a_day_that_the_gateway_forgot_is_told_and_nothing_is_taken_back",
            FLEX + "test_an_execution_of_a_day_that_is_over_clears_its_break_when_the_statement_is_imported",
        ),
    ),
    14: Row(
        "trade by hand",
        "Discretionary",
        (
            ORDERS + "test_trades_by_hand_and_of_unknown_references_are_discretionary",
            RECONCILIATION + "test_manual_trade_goes_to_discretionary_and_leaves_no_break",
        ),
    ),
    15: Row(
        "fill of an unknown owner",
        "Discretionary until it is assigned, once",
        (
            ORDERS + "test_trades_by_hand_and_of_unknown_references_are_discretionary",
            "tests/unit/engine/test_books_commands.py::test_an_assigned_execution_moves_to_its_new_owner",
        ),
    ),
    16: Row(
        "partial fill crosses cancel",
        "the fill counts, the end is confirmed",
        (ORDERS + "test_a_partial_fill_that_crosses_its_cancel_is_kept",),
    ),
    17: Row(
        "refused after it was accepted",
        "ends once",
        (ORDERS + "test_an_order_that_its_exchange_refuses_after_all_ends_once",),
    ),
    18: Row(
        "no acknowledgement",
        "asked for, never sent again",
        (
            ORDERS + "test_an_order_that_never_arrived_is_known_as_such_after_the_next_look_and_not_sent_again",
            ORDERS + "test_an_order_whose_every_answer_was_lost_is_booked_from_the_next_look",
            FILLS + "test_orders_of_an_unknown_end_are_never_sent_again",
        ),
    ),
    19: Row(
        "more than ordered",
        "booked and flagged, its strategy halted",
        (
            ORDERS + "test_an_overfill_is_booked_and_flagged_and_halts_its_strategy_alone",
            "tests/e2e/engine/test_halt.py::test_overfill_is_booked_and_halts_its_strategy_alone",
        ),
    ),
    20: Row(
        "fill before status, or without one",
        "booked at once",
        (ORDERS + "test_commissions_and_statuses_in_any_order_or_none_leave_exact_books",),
    ),
    21: Row(
        "second permId under one reference",
        "both booked, each by itself",
        (ORDERS + "test_a_second_order_under_one_reference_is_booked_to_its_owner_beside_the_first",),
    ),
    22: Row(
        "326, the client id is held",
        "said, waited for, not taken",
        (
            LINK + "test_a_client_id_that_another_program_holds_is_waited_for_and_not_taken",
            CONNECTION + "test_client_id_in_use_is_told_at_once",
        ),
    ),
    23: Row(
        "33rd client",
        "refused before it connects",
        (
            GATEWAY + "test_thirty_third_client_is_refused_until_one_leaves",
            "tests/unit/ib/test_client_ids.py::test_budget_leaves_two_clients_for_the_engine",
        ),
    ),
    24: Row(
        "error 100",
        "45 a second over all connections; what IB refused all the same is found out and not sent again",
        (
            PACE + "test_all_connections_together_stay_below_ibs_limit_and_nothing_is_refused",
            PACE + "test_what_ib_refuses_as_too_fast_is_found_out_and_never_sent_again",
            LINK + "test_a_gateway_that_rejects_what_is_too_fast_gets_nothing_too_fast",
        ),
    ),
    25: Row(
        "an answer that does not come",
        "changes nothing",
        (
            RECONCILIATION + "test_answer_about_positions_that_never_ends_changes_nothing",
            RECONCILIATION + "test_account_download_without_cash_opens_no_break",
        ),
    ),
    26: Row(
        "malformed or huge frame",
        "a new line or a new look",
        (
            LINK + "test_junk_on_the_line_ends_in_a_new_line_or_a_new_look",
            LINK + "test_what_a_strategys_line_could_not_read_is_asked_for_again_and_alerted",
            "tests/unit/ib/test_reader_fuzz.py::test_damaged_messages_never_stop_the_ones_behind_them",
            "tests/e2e/faults/test_greetings.py::test_damaged_greetings_are_refused_in_time_or_carry_a_whole_login",
        ),
    ),
    27: Row(
        "split, exercise, dividend",
        "a typed adjustment, no invented fill",
        (
            RECONCILIATION + "test_split_at_the_broker_locks_the_instrument_and_names_the_ratio",
            RECONCILIATION + "test_deposit_at_the_broker_opens_a_cash_break_that_locks_nothing_and_clears_by_itself",
        ),
    ),
    28: Row(
        "another account, real money",
        "refused",
        (
            CONNECTION + "test_wrong_account_is_refused",
            CONNECTION + "test_real_money_is_refused_unless_allowed",
            "tests/e2e/engine/test_engine.py::test_a_gateway_of_another_account_is_refused_in_words",
        ),
    ),
}
