"""A start that cannot work ends with one line that says what to change, an exit code, and no traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DAPHNE = ["-m", "daphne", "-p", "1", "mats_site.asgi:application"]


def run(command: list[str], home: Path, **environment: str) -> tuple[int, str]:
    """Run python with the command until it ends; return exit code and everything it said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MATS_", "DATABASE_URL"))}
    kept |= {"MATS_HOME": str(home), "DJANGO_SETTINGS_MODULE": "mats_site.settings", **environment}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=kept, capture_output=True, text=True, timeout=30, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", [["manage.py", "up"], DAPHNE], ids=lambda c: c[1])
def test_home_that_cannot_be_written_is_named(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "file").write_text("")
    code, said = run(command, tmp_path / "file" / "home")
    assert code == 2
    assert f"{tmp_path / 'file' / 'home'} cannot be written" in said
    assert "MATS_HOME" in said


def test_junk_in_a_setting_is_named(tmp_path: Path) -> None:
    code, said = run(["manage.py", "run_engine"], tmp_path, MATS_LOG_LEVEL="LOUD")
    assert (code, said.count("\n")) == (2, 1)
    assert "MATS_LOG_LEVEL=LOUD" in said


def test_missing_strategy_folder_is_warned_of(tmp_path: Path) -> None:
    _, said = run(["manage.py", "check"], tmp_path, MATS_STRATEGY_PATH=str(tmp_path / "gone"))
    assert f"{tmp_path / 'gone'}, which is no folder" in said


def test_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, free_port: int) -> None:
    junk = tmp_path / "junk.sqlite3"
    junk.write_text("my diary, by no means a database")
    ports = {"MATS_WEB_PORT": str(free_port), "MATS_EMBEDDED_GATEWAY": "false"}
    code, said = run(["manage.py", "up"], tmp_path, DATABASE_URL=f"sqlite:///{junk}", **ports)
    assert code == 2
    assert "The database cannot be used" in said
    assert junk.read_text() == "my diary, by no means a database"


def test_engine_without_migrations_says_what_to_run(tmp_path: Path) -> None:
    code, said = run(["manage.py", "run_engine"], tmp_path)
    assert code == 1
    assert "manage.py migrate" in said


def test_port_in_use_is_named_before_anything_is_touched(tmp_path: Path, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        code, said = run(["manage.py", "up"], tmp_path, MATS_WEB_PORT=str(free_port))
    assert code == 2
    assert str(free_port) in said
    assert not (tmp_path / "mats.sqlite3").exists()
