"""Opening ArcticDB, its errors, and the lock that keeps writers apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from arcticdb.exceptions import NoDataFoundException

from portfolio.arctic import client as client_module
from portfolio.arctic.address import complete
from portfolio.arctic.client import ArcticClient, ArcticUnavailableError, get_ac
from portfolio.arctic.lock import ArcticBusyError, writer_lock
from portfolio.arctic.projections import Projector
from portfolio.arctic.writer import ArcticWriter
from strategies.exceptions import ConfigError

HOLDER = """
import fcntl, os, sys
handle = open(sys.argv[1], "a+")
fcntl.flock(handle, fcntl.LOCK_EX)
handle.truncate(0); handle.write(str(os.getpid())); handle.flush()
print("held", flush=True)
sys.stdin.read()
"""


def test_one_client_for_each_store(arctic: ArcticClient) -> None:
    assert get_ac(arctic.uri) is arctic


def test_library_is_found_by_every_name_of_the_call(arctic: ArcticClient) -> None:
    assert arctic["general"] is arctic.get_library("general") is arctic.library("general")
    assert arctic.list_libraries() == ["general"]


def test_client_of_another_process_is_not_reused(arctic: ArcticClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)
    made: list[str] = []

    class Fresh:
        def __init__(self, uri: str) -> None:
            made.append(uri)

    monkeypatch.setattr(client_module, "ArcticClient", Fresh)
    get_ac(arctic.uri)
    client_module._clients.pop((-1, arctic.uri))
    assert made == [arctic.uri]


def test_map_size_is_always_given() -> None:
    assert complete("lmdb:///a") == "lmdb:///a?map_size=20GB"
    assert complete("lmdb:///a?map_size=1GB") == "lmdb:///a?map_size=1GB"
    assert complete("mem://x") == "mem://x"


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(ArcticUnavailableError) as caught:
        get_ac(f"lmdb://{blocker / 'arctic'}")
    assert str(blocker / "arctic") in caught.value.message


def test_folder_that_is_not_writable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(ArcticUnavailableError) as caught:
        get_ac(f"lmdb://{tmp_path / 'locked'}")
    assert str(tmp_path / "locked") in caught.value.message


@pytest.mark.parametrize("name", ["", "DU1.fills", "/x"])
def test_library_names_that_arctic_mixes_up_are_refused(arctic: ArcticClient, name: str) -> None:
    with pytest.raises(ConfigError):
        arctic.library(name)


def test_full_map_is_said_in_words(tmp_path: Path) -> None:
    small = get_ac(f"lmdb://{tmp_path / 'small'}?map_size=1MB")
    writer = ArcticWriter(client=small)
    frame = pd.DataFrame({"x": pd.Series(range(400_000), dtype="float64").sample(frac=1, random_state=1)})
    with pytest.raises(ArcticUnavailableError) as caught:
        writer.append("general", "big", frame.reset_index(drop=True), None)
    assert str(tmp_path / "small") in caught.value.message
    writer.close()


def test_reading_a_symbol_that_does_not_exist_says_so(arctic: ArcticClient) -> None:
    with pytest.raises(NoDataFoundException):
        arctic.read("general", "nothing")
    assert arctic.metadata("general", "nothing") == {}
    assert not arctic.has_symbol("nowhere", "nothing")
    assert not arctic.has_library("nowhere")


def test_read_is_tried_again_when_a_version_was_pruned(arctic: ArcticClient) -> None:
    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise NoDataFoundException("pruned")
        return "read"

    assert client_module._retry(flaky) == "read"


@pytest.mark.django_db
def test_second_process_may_not_write(arctic: ArcticClient) -> None:
    lock = writer_lock(arctic)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ArcticBusyError) as caught:
            Projector(client=arctic).flush()
        assert str(holder.pid) in caught.value.message
        assert caught.value.fields["pid"] == str(holder.pid)
        holder.kill()
    projector = Projector(client=arctic)
    projector.flush()
    assert lock.held
    projector.close()
    assert not lock.held


def test_lock_is_shared_and_counted_within_a_process(arctic: ArcticClient) -> None:
    first, second = ArcticWriter(client=arctic), ArcticWriter(client=arctic)
    first.open()
    second.open()
    first.close()
    assert writer_lock(arctic).held
    second.close()
    assert not writer_lock(arctic).held


def test_process_that_had_a_deleted_library_open_sees_what_is_written_to_it_again(tmp_path: Path) -> None:
    """An LMDB file that is removed and made again stays the old one for who has it open."""
    uri = f"lmdb://{tmp_path / 'arctic'}?map_size=64MB"
    code = (
        "import django; django.setup(); import sys, pandas as pd\n"
        "from portfolio.arctic.client import get_ac\n"
        f"ac = get_ac({uri!r}); ac.drop_library('univ')\n"
        "ac.library('univ').write('x', pd.DataFrame({'n': [2]}))\n"
    )
    client = get_ac(uri)
    client.library("univ").write("x", pd.DataFrame({"n": [1]}))
    assert list(client.read("univ", "x").data["n"]) == [1]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "MATS_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(client.read("univ", "x").data["n"]) == [2]
