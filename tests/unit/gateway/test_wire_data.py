"""Subscriptions, delayed and frozen data, limits and refusals of market data, against a venue of canned answers."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.gateway.wire_fake import CONTRACT_FIELDS, Bench, heard, ids
from trading.gateway.model import Entitlement
from trading.gateway.session import Session
from trading.gateway.wire_history_pacing import BarRequest, HistoryPacer

LIVE_TICKS = {"1", "2", "4", "6", "7", "9", "14"}


def ask(bench: Bench, session: Session, req_id: int = 5, generic: str = "", snapshot: str = "0") -> list[list[str]]:
    """reqMktData for AAPL."""
    return bench.say(session, "1", "11", str(req_id), *CONTRACT_FIELDS, "0", generic, snapshot, "0", "")


def errors(frames: list[list[str]]) -> list[str]:
    return [fields[3] for fields in frames if fields[0] == "4"]


def shown(frames: list[list[str]]) -> list[str]:
    """The market data type that message 58 tells."""
    return [fields[3] for fields in frames if fields[0] == "58"]


def prices(frames: list[list[str]]) -> set[str]:
    return {fields[3] for fields in frames if fields[0] == "1"}


def choose(bench: Bench, session: Session, data_type: int) -> None:
    bench.say(session, "59", "1", str(data_type))


class TestTypes:
    @pytest.mark.parametrize("wanted", [1, 2, 3, 4])
    def test_who_has_subscribed_gets_live_data_while_the_market_is_open(self, wanted: int) -> None:
        bench = Bench()
        session = bench.connect(1)
        choose(bench, session, wanted)
        frames = ask(bench, session)
        assert shown(frames) == ["1"]
        assert errors(frames) == []
        assert prices(frames) <= LIVE_TICKS

    @pytest.mark.parametrize(("wanted", "told"), [(1, "1"), (2, "2"), (3, "1"), (4, "2")])
    def test_a_closed_market_is_frozen_for_those_who_asked_for_it(self, wanted: int, told: str) -> None:
        bench = Bench()
        bench.venue.is_trading = False
        session = bench.connect(1)
        choose(bench, session, wanted)
        assert shown(ask(bench, session)) == [told]

    def test_frozen_data_become_live_when_the_market_opens(self) -> None:
        bench = Bench()
        bench.venue.is_trading = False
        session = bench.connect(1)
        choose(bench, session, 2)
        ask(bench, session)
        bench.venue.is_trading = True
        bench.tick()
        assert shown(heard(session)) == ["1"]

    @pytest.mark.parametrize(
        ("entitled", "wanted", "code"),
        [("delayed", 1, "10089"), ("delayed", 2, "10089"), ("none", 1, "354"), ("none", 3, "354")],
    )
    def test_who_has_not_subscribed_gets_an_error(self, entitled: str, wanted: int, code: str) -> None:
        bench = Bench()
        bench.venue.entitled = Entitlement(entitled)
        session = bench.connect(1)
        choose(bench, session, wanted)
        frames = ask(bench, session)
        assert ids(frames) == ["4"]
        assert errors(frames) == [code]
        bench.tick()
        assert heard(session) == []

    def test_or_delayed_data_under_their_own_numbers_if_those_were_asked_for(self) -> None:
        bench = Bench()
        bench.venue.entitled = Entitlement.DELAYED
        session = bench.connect(1)
        choose(bench, session, 3)
        frames = ask(bench, session)
        assert errors(frames) == ["10167"]
        assert shown(frames) == ["3"]
        assert prices(frames) == {"66", "67", "68", "72", "73", "75", "76"}
        assert {fields[3] for fields in frames if fields[0] in {"2", "45", "46"}} == {"74", "88", "90"}

    def test_delayed_data_of_a_closed_market_can_be_frozen(self) -> None:
        bench = Bench()
        bench.venue.entitled, bench.venue.is_trading = Entitlement.DELAYED, False
        session = bench.connect(1)
        choose(bench, session, 4)
        assert shown(ask(bench, session)) == ["4"]

    def test_part_of_a_subscription_shows_trades_and_no_quotes(self) -> None:
        bench = Bench()
        bench.venue.entitled = Entitlement.PARTIAL
        frames = ask(bench, bench.connect(1))
        assert errors(frames) == ["10090"]
        assert ["1", "6", "5", "1", "-1", "0", "0"] in frames
        assert ["1", "6", "5", "4", "187.5", "5", "0"] in frames

    def test_a_snapshot_of_delayed_data_ends_too(self) -> None:
        bench = Bench()
        bench.venue.entitled = Entitlement.DELAYED
        session = bench.connect(1)
        choose(bench, session, 3)
        assert ask(bench, session, snapshot="1")[-1] == ["57", "1", "5"]


class TestCompetingSession:
    def test_streams_fall_silent_with_one_error_each_and_come_back(self) -> None:
        bench = Bench()
        session = bench.connect(1)
        ask(bench, session)
        bench.venue.competing = True
        for bid in ("187.40", "187.30"):
            bench.venue.bid = Decimal(bid)
            bench.tick()
        assert [fields[2:4] for fields in heard(session)] == [["5", "10197"]]
        bench.venue.competing = False
        bench.tick()
        assert ["1", "6", "5", "1", "187.30", "100", "0"] in heard(session)

    def test_new_requests_are_refused(self) -> None:
        bench = Bench()
        bench.venue.competing = True
        assert errors(ask(bench, bench.connect(1))) == ["10197"]


class TestWithoutPermission:
    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            (["20", "5", *CONTRACT_FIELDS, "0", "", "1 min", "1 D", "1", "TRADES", "1", "0", ""], "162"),
            (["50", "3", "5", *CONTRACT_FIELDS, "5", "TRADES", "1", ""], "420"),
            (["97", "5", *CONTRACT_FIELDS, "Last", "0", "0"], "10189"),
            (["96", "5", *CONTRACT_FIELDS, "0", "", "20260302-15:00:00", "10", "TRADES", "1", "0", ""], "10187"),
            (["88", "5", *CONTRACT_FIELDS, "0", "1", "1 day"], "162"),
        ],
    )
    def test_what_is_never_delayed_is_refused(self, fields: list[str], code: str) -> None:
        bench = Bench()
        bench.venue.entitled = Entitlement.DELAYED
        frames = bench.say(bench.connect(1), *fields)
        assert errors(frames) == [code]
        assert "No market data permissions for NASDAQ STK" in frames[0][4]


class TestGenericTicks:
    def test_the_asked_for_are_sent_and_no_others(self) -> None:
        bench = Bench()
        frames = ask(bench, bench.connect(1), generic="233,236,165,104,456")
        told = {fields[3] for fields in frames if fields[0] in {"1", "2", "45", "46"}}
        assert {"48", "46", "89", "15", "16", "19", "20", "21", "59"} <= told
        assert "37" not in told
        assert "37" in {f[3] for f in ask(bench, bench.connect(2), generic="221") if f[0] == "1"}

    @pytest.mark.parametrize("generic", ["999", "abc", "233,1"])
    def test_a_number_that_ib_does_not_have_is_refused(self, generic: str) -> None:
        bench = Bench()
        frames = ask(bench, bench.connect(1), generic=generic)
        assert errors(frames) == ["321"]
        assert "Legal ones for (STK) are:" in frames[0][4]

    def test_a_number_with_a_provider_behind_it_is_known(self) -> None:
        assert errors(ask(Bench(), Bench().connect(1), generic="292:BZ")) == []


class TestSingleTicks:
    def stream(self, bench: Bench, session: Session, req_id: int, kind: str = "Last", past: int = 0) -> list[list[str]]:
        return bench.say(session, "97", str(req_id), *CONTRACT_FIELDS, kind, str(past), "0")

    def test_a_stream_begins_with_the_past_that_was_asked_for_and_goes_on(self) -> None:
        bench = Bench()
        session = bench.connect(1)
        (past,) = self.stream(bench, session, 5, past=3)
        assert past[:3] == ["98", "5", "3"]
        bench.tick()
        assert [fields[:3] for fields in heard(session)] == [["99", "5", "1"]]
        assert bench.say(session, "98", "5") == []
        bench.tick()
        assert heard(session) == []
        assert errors(bench.say(session, "98", "5")) == ["300"]

    def test_five_streams_are_the_most_of_all_clients(self) -> None:
        bench = Bench()
        first, second = bench.connect(1), bench.connect(2)
        for req_id in range(3):
            assert errors(self.stream(bench, first, req_id)) == []
        for req_id in range(2):
            assert errors(self.stream(bench, second, req_id, "BidAsk")) == []
        assert errors(self.stream(bench, second, 9)) == ["10190"]
        bench.say(first, "98", "0")
        assert errors(self.stream(bench, second, 9)) == []

    def test_a_kind_that_does_not_exist_is_refused(self) -> None:
        bench = Bench()
        assert errors(self.stream(bench, bench.connect(1), 5, "Trades")) == ["10189"]

    @pytest.mark.parametrize(
        ("start", "end", "count", "what"),
        [
            ("", "", "10", "TRADES"),
            ("20260302-14:00:00", "20260302-15:00:00", "10", "TRADES"),
            ("20260302-14:00:00", "", "1001", "TRADES"),
            ("20260302-14:00:00", "", "0", "TRADES"),
            ("yesterday", "", "10", "TRADES"),
            ("20260302-14:00:00", "", "10", "LAST"),
        ],
    )
    def test_a_malformed_question_about_the_past_is_refused(self, start: str, end: str, count: str, what: str) -> None:
        bench = Bench()
        frames = bench.say(bench.connect(1), "96", "5", *CONTRACT_FIELDS, "0", start, end, count, what, "1", "0", "")
        assert errors(frames) == ["10187"]


class TestScanner:
    FIELDS = ("50", "STK", "STK.US.MAJOR", "MOST_ACTIVE", *[""] * 17, "", "")

    def test_a_list_is_renewed_every_half_minute_until_cancelled(self) -> None:
        bench = Bench()
        session = bench.connect(1)
        bench.tick(1)
        assert ids(bench.say(session, "22", "5", *self.FIELDS)) == ["20"]
        bench.tick(20)
        assert heard(session) == []
        bench.tick(11)
        assert ids(heard(session)) == ["20"]
        assert errors(bench.say(session, "23", "1", "5")) == ["162"]
        bench.tick(31)
        assert heard(session) == []

    def test_an_empty_list_says_so(self) -> None:
        bench = Bench()
        fields = [*self.FIELDS[:5], "1.0", *self.FIELDS[6:]]
        frames = bench.say(bench.connect(1), "22", "5", *fields)
        assert frames[0] == ["20", "3", "5", "0"]
        assert errors(frames) == ["165"]

    def test_ten_lists_are_the_most(self) -> None:
        bench = Bench()
        session = bench.connect(1)
        for req_id in range(10):
            assert errors(bench.say(session, "22", str(req_id), *self.FIELDS)) == []
        assert errors(bench.say(session, "22", "10", *self.FIELDS)) == ["162"]


class TestHistoryPacing:
    def request(self, **changes: object) -> BarRequest:
        values: dict[str, object] = {
            "con_id": 1, "exchange": "SMART", "what": "TRADES", "end": "", "bar_size": "5 secs", "duration": "60 S",
            "use_rth": True,
        }  # fmt: skip
        return BarRequest(**{**values, **changes})  # type: ignore[arg-type]

    def test_the_same_request_must_wait_15_seconds(self) -> None:
        pacer = HistoryPacer()
        assert pacer.may_ask(self.request(), 0)
        assert not pacer.may_ask(self.request(), 14.9)
        assert pacer.may_ask(self.request(end="20260302-15:00:00"), 14.9)
        assert pacer.may_ask(self.request(), 15)

    def test_the_sixth_of_one_contract_in_two_seconds_is_refused(self) -> None:
        pacer = HistoryPacer()
        asked = [pacer.may_ask(self.request(duration=f"{n} S"), 0.1 * n) for n in range(6)]
        assert asked == [True] * 5 + [False]
        assert pacer.may_ask(self.request(con_id=2), 0.7)
        assert pacer.may_ask(self.request(duration="99 S"), 2.0)

    def test_sixty_in_ten_minutes_and_quotes_count_twice(self) -> None:
        pacer = HistoryPacer()
        assert all(pacer.may_ask(self.request(con_id=n, what="BID_ASK"), n) for n in range(29))
        assert pacer.may_ask(self.request(con_id=100), 30)
        assert not pacer.may_ask(self.request(con_id=101, what="BID_ASK"), 31)
        assert pacer.may_ask(self.request(con_id=101), 31)
        assert not pacer.may_ask(self.request(con_id=102), 32)
        assert pacer.may_ask(self.request(con_id=102), 600)

    def test_the_wire_counts_small_bars_only(self) -> None:
        bench = Bench()
        session = bench.connect(1)
        for size, expected in (("1 min", []), ("30 secs", ["162"])):
            fields = ["20", "5", *CONTRACT_FIELDS, "0", "", size, "1 D", "1", "TRADES", "1", "0", ""]
            bench.say(session, *fields)
            frames = bench.say(session, *fields)
            assert errors(frames) == expected
        assert "pacing violation" in frames[0][4]

    def test_real_time_bars_are_counted_too(self) -> None:
        bench = Bench()
        session = bench.connect(1)
        for req_id in range(60):
            bench.say(session, "50", "3", str(req_id), *CONTRACT_FIELDS, "5", "TRADES", "1", "")
            bench.say(session, "51", "1", str(req_id))
        assert errors(bench.say(session, "50", "3", "61", *CONTRACT_FIELDS, "5", "TRADES", "1", "")) == ["420"]


def test_a_calculation_without_prices_is_refused() -> None:
    bench = Bench()
    session = bench.connect(1)
    assert ids(bench.say(session, "54", "3", "5", *CONTRACT_FIELDS, "4.5", "187", "0", "")) == ["21"]
    assert ids(bench.say(session, "55", "3", "5", *CONTRACT_FIELDS, "0.3", "187", "0", "")) == ["21"]
    assert errors(bench.say(session, "54", "3", "5", *CONTRACT_FIELDS, "", "187", "0", "")) == ["322"]
    assert errors(bench.say(session, "55", "3", "5", *CONTRACT_FIELDS, "-1", "187", "0", "")) == ["322"]


def test_exercise_is_refused_in_ibs_words() -> None:
    bench = Bench()
    fields = [*CONTRACT_FIELDS[:8], *CONTRACT_FIELDS[9:]]
    assert errors(bench.say(bench.connect(1), "21", "2", "5", *fields, "1", "1", "DU1", "0")) == ["322"]
    assert errors(bench.say(bench.connect(2), "21", "2", "5", *fields, "3", "1", "DU1", "0")) == ["322"]
