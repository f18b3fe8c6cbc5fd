"""Market hours and holidays in the database: read, edited in the admin, imported; clocks hear of it."""

from __future__ import annotations

from datetime import date, time
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from strategies.exceptions import ConfigError
from strategies.models import AuditEntry
from trading import calendar_services
from trading.market import calendar_rows
from trading.market.calendar_import import read_holidays
from trading.market.calendars import HolidayOverride
from trading.session_models import Holiday, MarketHours

STORM = date(2026, 3, 3)


@pytest.fixture
def admin(db: None, client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root", password="x" * 14))
    return client


def close_day(day: date = STORM, **fields: Any) -> Holiday:
    row = Holiday(group="US_EQUITY", day=day, name="Storm", **fields)
    calendar_services.save_row(row, actor="tester", source="cli")
    return row


class TestClocks:
    def test_edit_reaches_the_clocks_of_this_process_at_the_commit(
        self, db: None, django_capture_on_commit_callbacks: Any
    ) -> None:
        clock = calendar_rows.make_time_manager()
        assert clock.is_trading_day(STORM)
        with django_capture_on_commit_callbacks(execute=True):
            row = close_day()
        assert not clock.is_trading_day(STORM)
        with django_capture_on_commit_callbacks(execute=True):
            calendar_services.remove_row(row, actor="tester", source="cli")
        assert clock.is_trading_day(STORM)

    def test_edit_of_another_process_is_found_by_refresh_and_no_change_costs_no_reading(
        self, db: None, django_assert_num_queries: Any
    ) -> None:
        clock = calendar_rows.make_time_manager()
        calendar_rows.refresh()
        close_day()  # the commit never comes in a test's transaction, as in another process
        assert clock.is_trading_day(STORM)
        assert calendar_rows.refresh()
        assert not clock.is_trading_day(STORM)
        with django_assert_num_queries(2):
            assert not calendar_rows.refresh()

    def test_new_clock_knows_the_rows(self, db: None) -> None:
        close_day(closes_at=time(12, 30))
        MarketHours.objects.create(
            group="XLON", valid_from=STORM, regular_open=time(9), regular_close=time(15), reason="Trial"
        )
        clock = calendar_rows.make_time_manager("backtest")
        closes = clock.get_trading_session(STORM).regular_close
        assert closes is not None
        assert (closes.hour, closes.minute) == (17, 30)
        opens = clock.get_trading_session(STORM, "LSE").regular_open
        assert opens is not None
        assert opens.hour == 9


class TestServices:
    def test_row_that_makes_hours_run_backwards_is_refused_and_not_stored(self, db: None) -> None:
        with pytest.raises(ConfigError, match="run backwards"):
            close_day(closes_at=time(9))
        assert not Holiday.objects.exists()

    def test_unknown_group_is_refused(self, db: None) -> None:
        with pytest.raises(ConfigError, match="«MARS»"):
            calendar_services.save_row(Holiday(group="MARS", day=STORM, name="x"), actor="t", source="cli")

    def test_every_change_is_audited_with_before_and_after(self, db: None) -> None:
        row = close_day()
        row.closes_at = time(13)
        calendar_services.save_row(row, actor="tester", source="cli")
        calendar_services.remove_row(row, actor="tester", source="cli")
        found = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
        assert found == ["calendar.holiday_set", "calendar.holiday_set", "calendar.holiday_removed"]
        changed: Any = AuditEntry.objects.order_by("id")[1]
        assert (changed.before["closes_at"], changed.after["closes_at"]) == (None, "13:00:00")


class TestAdmin:
    def test_exchange_is_stored_under_its_group(self, admin: Client) -> None:
        answer = admin.post("/admin/trading/holiday/add/", {"group": "NYSE", "day": "2026-03-03", "name": "Storm"})
        assert answer.status_code == 302
        assert Holiday.objects.get().group == "US_EQUITY"

    def test_same_day_twice_is_an_error_in_the_form(self, admin: Client) -> None:
        close_day()
        answer = admin.post("/admin/trading/holiday/add/", {"group": "NYSE", "day": "2026-03-03", "name": "Storm"})
        assert answer.status_code == 200
        assert Holiday.objects.count() == 1

    def test_hours_that_cannot_be_are_an_error_in_the_form(self, admin: Client) -> None:
        form = {"group": "US_EQUITY", "valid_from": "2026-03-03", "regular_open": "09:30", "reason": "x"}
        answer = admin.post("/admin/trading/markethours/add/", {**form, "regular_close": "09:00"})
        assert answer.status_code == 200
        assert "run backwards" in answer.content.decode() or "follow one another" in answer.content.decode()
        assert not MarketHours.objects.exists()
        answer = admin.post("/admin/trading/markethours/add/", {**form, "regular_close": "15:00"})
        assert answer.status_code == 302
        assert AuditEntry.objects.filter(action="calendar.markethours_set").count() == 1

    def test_removal_is_audited(self, admin: Client) -> None:
        row = close_day()
        assert admin.post(f"/admin/trading/holiday/{row.pk}/delete/", {"post": "yes"}).status_code == 302
        assert AuditEntry.objects.filter(action="calendar.holiday_removed", actor="root").exists()

    def test_viewer_may_look_but_not_edit(self, db: None, client: Client) -> None:
        from django.contrib.auth.models import Group

        viewer = User.objects.create_user("v", password="x" * 14, is_staff=True)
        viewer.groups.add(Group.objects.get(name="viewer"))
        client.force_login(viewer)
        assert client.get("/admin/trading/holiday/").status_code == 200
        answer = client.post("/admin/trading/holiday/add/", {"group": "NYSE", "day": "2026-03-03", "name": "x"})
        assert answer.status_code == 403
        assert not Holiday.objects.exists()


GOOD = "group,day,name,closes_at\nNYSE,2026-12-24,Christmas Eve,13:00\n\nUS_EQUITY,2026-12-25,Christmas,\n"


class TestImport:
    def run(self, path: Path, text: str, **options: Any) -> None:
        (path / "holidays.csv").write_text(text, encoding="utf-8")
        call_command("import_calendar", str(path / "holidays.csv"), **options)

    def test_second_run_changes_nothing(self, db: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.run(tmp_path, GOOD)
        assert "2 added, 0 changed, 0 there already" in capsys.readouterr().out
        assert Holiday.objects.get(day="2026-12-24").closes_at == time(13)
        entries = AuditEntry.objects.count()
        self.run(tmp_path, GOOD)
        assert "0 added, 0 changed, 2 there already" in capsys.readouterr().out
        assert AuditEntry.objects.count() == entries
        self.run(tmp_path, GOOD.replace("13:00", "14:00"))
        assert "0 added, 1 changed, 1 there already" in capsys.readouterr().out

    def test_check_stores_nothing(self, db: None, tmp_path: Path) -> None:
        self.run(tmp_path, GOOD, check=True)
        assert not Holiday.objects.exists()

    def test_one_bad_line_keeps_the_whole_file_out(self, db: None, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match=r"Line 5: day is written 2026-12-24"):
            self.run(tmp_path, GOOD + "US_EQUITY,25.12.2026,Christmas,\n")
        assert not Holiday.objects.exists()

    def test_close_before_the_open_keeps_the_whole_file_out(self, db: None, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="2026-12-31 has hours that run backwards"):
            self.run(tmp_path, GOOD + "US_EQUITY,2026-12-31,Odd,08:00\n")
        assert not Holiday.objects.exists()

    def test_file_that_is_no_text_is_refused(self, db: None, tmp_path: Path) -> None:
        (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(CommandError, match="cannot be read"):
            call_command("import_calendar", str(tmp_path / "x.csv"))

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "Line 1: the header has no day"),
            ("day,nome\n", "Line 1: the header has nome"),
            ("day,name\n2026-12-25,Christmas\n", "Line 2: no group"),
            ("day,group\n2026-12-25,MARS\n", "Line 2: «MARS» is no known exchange"),
            ("day,group\n2026-12-25\n", "Line 2: 1 fields under 2 columns"),
            ("day,group,is_open\n2026-12-25,NYSE,maybe\n", "Line 2: is_open is yes or no, not «maybe»"),
            ("day,group,closes_at\n2026-12-25,NYSE,\n2026-12-25,NASDAQ,13:00\n", "Line 3: US_EQUITY 2026-12-25 stands"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(self, text: str, reason: str) -> None:
        with pytest.raises(ConfigError) as refused:
            read_holidays(text)
        assert refused.value.message.startswith(reason)

    def test_headers_of_other_tools_are_understood(self) -> None:
        text = "\ufeffDate,Holiday Name,Notes,Early Close Time\n2026-12-24,Eve,half,13:00\n"
        assert read_holidays(text, "NYSE") == [HolidayOverride("US_EQUITY", date(2026, 12, 24), "Eve", time(13))]
