"""``manage.py import_flex``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from uuid import UUID

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from portfolio.flex import store
from portfolio.models import FlexStatement, Movement
from portfolio.services import ensure_account, open_account
from tests.unit.portfolio.builders import ACCOUNT, fill
from tests.unit.portfolio.flex.builders import Sheet, flex
from tests.unit.portfolio.flex.test_download import TOKEN, Service, failed
from trading.management.commands import book
from trading.models import CommandState, EngineCommand

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def books() -> None:
    """An account with cash."""
    open_account(ACCOUNT, {"USD": Decimal(1000)}, [], [], datetime(2026, 2, 27, 14, 0, tzinfo=UTC))


@pytest.fixture
def statement(tmp_path: Path) -> Path:
    """A file with an execution that the books lack."""
    path = tmp_path / "day.xml"
    path.write_bytes(flex(Sheet().trade(fill(1, 10, 50)).ending("USD", "1000")))
    return path


def run(*args: object, code: int = 0) -> str:
    """The command's output; ``code`` is what it must end with."""
    out = StringIO()
    if code:
        with pytest.raises(SystemExit) as caught:
            call_command("import_flex", *map(str, args), stdout=out)
        assert caught.value.code == code
    else:
        call_command("import_flex", *map(str, args), stdout=out)
    return out.getvalue()


def test_a_check_needs_no_engine_books_nothing_and_says_what_differs(statement: Path) -> None:
    before = Movement.objects.count()
    told = run(statement, "--check", code=3)
    assert "missing_execution: Not in the books: BUY 10 AAPL at 50" in told
    assert (Movement.objects.count(), FlexStatement.objects.count()) == (before, 0)


def test_a_check_of_a_statement_that_agrees_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "day.xml"
    path.write_bytes(flex(Sheet().ending("USD", "1000")))
    assert "Statement of DU1000001" in run(path, "--check")


def test_without_an_engine_an_import_says_so(statement: Path) -> None:
    with pytest.raises(CommandError, match="No engine runs"):
        run(statement)


def test_a_file_that_is_refused_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "day.xml"
    path.write_bytes(flex(Sheet(account="U777")))
    kept = set(store.flex_home().iterdir())
    with pytest.raises(CommandError, match="U777"):
        run(path)
    assert set(store.flex_home().iterdir()) == kept


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"none\.xml"):
        run(tmp_path / "none.xml", "--check")


def test_a_file_or_a_download_but_not_both(statement: Path) -> None:
    for args in ([], [statement, "--download"]):
        with pytest.raises(CommandError, match="either a file or --download"):
            run(*args)


def test_several_accounts_must_be_told_apart(statement: Path) -> None:
    ensure_account("U2")
    with pytest.raises(CommandError, match="--account"):
        run(statement, "--check")
    assert "missing_execution" in run(statement, "--check", "--account", ACCOUNT, code=3)


def test_a_download_without_a_token_says_what_to_set() -> None:
    with pytest.raises(CommandError, match="MATS_FLEX_TOKEN"):
        run("--download", "--check")


class Terminal(StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def run_on(terminal: StringIO, statement: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Import beside an engine that does slice after slice, one a look; return what stderr got."""
    steps = iter(({"slice": 1, "slices": 2, "text": "slice 1 of 2"}, {"slice": 2, "slices": 2, "text": "slice 2 of 2"}))

    def wait_for(command_id: UUID, timeout_s: float, seen: Callable[[EngineCommand], object]) -> EngineCommand:
        command = EngineCommand.objects.get(pk=command_id)
        seen(command)
        for command.result in steps:
            seen(command)
        command.state, command.result = CommandState.DONE, {"summary": "Statement of DU1000001: 1 booked."}
        return command

    monkeypatch.setattr(book, "engine_state", lambda: {"running": True})
    monkeypatch.setattr(book, "wait_for", wait_for)
    monkeypatch.setattr("sys.stderr", terminal)
    assert "1 booked" in run(statement)
    return terminal.getvalue()


def test_a_terminal_shows_how_far_the_import_is(statement: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run_on(Terminal(), statement, monkeypatch).split("\r")
    assert [text.removesuffix("\x1b[K") for text in shown[1:]] == [
        "The import is queued.",
        "slice 1 of 2",
        "slice 2 of 2",
        "",
    ]


def test_a_log_gets_no_progress(statement: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_on(StringIO(), statement, monkeypatch) == ""


@pytest.fixture
def served(statement: Path, settings: LazySettings) -> Service:
    """A Flex Web Service that serves the statement, and the settings for it."""
    service = Service()
    service.get = [(200, statement.read_bytes())]
    settings.MATS = replace(settings.MATS, flex_token=TOKEN, flex_query="11", flex_url=service.url)
    return service


def test_a_downloaded_statement_is_kept_and_compared(served: Service) -> None:
    try:
        assert "missing_execution" in run("--download", "--check", code=3)
        assert len(served.asked) == 2
    finally:
        served.close()


def test_a_refused_download_never_shows_the_token(served: Service) -> None:
    served.send = [failed(1015, "Token is invalid.")]
    try:
        with pytest.raises(CommandError, match="Token is invalid") as caught:
            run("--download", "--check")
        assert TOKEN not in str(caught.value)
    finally:
        served.close()
