"""ArcticDB on S3: a local S3 server in a process of its own, over a real socket."""

from __future__ import annotations

import logging
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from django.conf import settings

from portfolio.arctic import client as client_module
from portfolio.arctic.client import ArcticClient, ArcticUnavailableError, get_ac
from portfolio.arctic.projections import Projector
from portfolio.models import ProjectionCursor
from portfolio.services import ensure_account, fold_batch
from portfolio.verification.stores import verify_stores
from strategies.exceptions import ConfigError
from tests.unit.portfolio.builders import ACCOUNT, NOW, fee, fill, owner_of

SECRET = "canary-7d1f0c2b9e"
DEADLINE_S = 30.0
pytestmark = [pytest.mark.django_db]


def free_port() -> int:
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


@contextmanager
def s3_server(port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Serve S3 with one bucket «mats»; moto in this process would wait for the interpreter's lock."""
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_for(lambda: answers(port))
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/mats", method="PUT"), timeout=10)
            yield server
        finally:
            server.terminate()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the S3 server did not start"


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA" + SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    port = free_port()
    with s3_server(port):
        yield port


@pytest.fixture
def s3(server: int, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArcticClient:
    """A client whose keys lie under a prefix of the test's own, and whose writer lock in a home of its own."""
    monkeypatch.setattr(settings, "MATS", replace(settings.MATS, mats_home=tmp_path))
    return get_ac(f"s3://127.0.0.1:mats?port={server}&region=us-east-1&path_prefix={request.node.name}")


def book(*numbers: int) -> None:
    items = [report for number in numbers for report in (fill(number, 10, 50 + number), fee(number))]
    fold_batch(ACCOUNT, items, owner_of, NOW)


def frames(client: ArcticClient) -> dict[str, pd.DataFrame]:
    symbols = client.library(ACCOUNT).list_symbols()
    return {symbol: client.read(ACCOUNT, symbol).data for symbol in sorted(symbols) if symbol != "portfolio"}


def test_flush_rebuild_and_verification_work_on_s3(s3: ArcticClient) -> None:
    ensure_account(ACCOUNT, "USD")
    projector = Projector(client=s3, batch_rows=3)
    for number in range(1, 6):
        book(number)
        projector.flush_all()
    before = frames(s3)
    assert list(before) == ["fills/ALPHA", "positions/ALPHA"]
    projector.rebuild()
    after = frames(s3)
    for symbol, frame in before.items():
        pd.testing.assert_frame_equal(after[symbol], frame)
    assert verify_stores(s3).findings == []
    projector.close()


def test_rows_that_were_written_before_a_crash_are_not_doubled_on_s3(s3: ArcticClient) -> None:
    ensure_account(ACCOUNT, "USD")
    book(1, 2)
    projector = Projector(client=s3)
    projector.flush_all()
    projector.close()
    ProjectionCursor.objects.all().delete()  # killed after the append, before the cursor was saved
    book(3)
    again = Projector(client=s3)
    again.flush_all()
    again.close()
    assert list(frames(s3)["fills/ALPHA"]["quantity"]) == [10.0, 0.0] * 3


def test_difference_on_s3_is_found(s3: ArcticClient) -> None:
    ensure_account(ACCOUNT, "USD")
    book(1)
    projector = Projector(client=s3)
    projector.flush_all()
    item = s3.read(ACCOUNT, "fills/ALPHA")
    item.data.loc[item.data.index[0], "price"] = float(Decimal("50.01"))
    s3.library(ACCOUNT).write("fills/ALPHA", item.data, metadata=item.metadata)
    assert "fills/ALPHA" in str(verify_stores(s3).findings[0])
    projector.close()


def test_refused_credentials_are_said_in_words_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with s3_server(port, INITIAL_NO_AUTH_ACTION_COUNT="1"), caplog.at_level(logging.DEBUG):
        with pytest.raises(ArcticUnavailableError) as caught:
            get_ac(f"s3://127.0.0.1:mats?port={port}&region=us-east-1")
    assert "AWS_ACCESS_KEY_ID" in caught.value.message
    assert SECRET not in caught.value.message + caplog.text


def test_missing_bucket_is_an_error_and_not_an_empty_store(server: int) -> None:
    with pytest.raises(ArcticUnavailableError) as caught:
        get_ac(f"s3://127.0.0.1:nobucket?port={server}&region=us-east-1")
    assert "bucket does not exist" in caught.value.message


def test_endpoint_that_does_not_answer_is_said_at_once() -> None:
    begun = time.monotonic()
    with pytest.raises(ArcticUnavailableError) as caught:
        get_ac(f"s3://127.0.0.1:mats?port={free_port()}")
    assert "does not answer" in caught.value.message
    assert time.monotonic() - begun < client_module.PROBE_S + 1


def test_store_that_goes_away_leaves_the_rows_for_later() -> None:
    ensure_account(ACCOUNT, "USD")
    port = free_port()
    with s3_server(port) as server:
        client = get_ac(f"s3://127.0.0.1:mats?port={port}&region=us-east-1&path_prefix=away")
        projector = Projector(client=client)
        book(1)
        projector.flush_all()
        server.terminate()
        server.wait(DEADLINE_S)
        with pytest.raises(ArcticUnavailableError):
            client.check()
    with s3_server(port):
        book(2)
        assert projector.flush_all().total
        projector.close()


def test_credentials_in_the_address_are_refused_without_being_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        get_ac(f"s3://127.0.0.1:mats?access=AKIA1&secret={SECRET}")
    assert SECRET not in caught.value.message
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.message
