"""Environment readers refuse junk and never invent a value."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mats_site.env import read_environment, secret_key
from strategies.exceptions import ConfigError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MATS_WEB_PORT", "0"),
        ("MATS_WEB_PORT", "eighty"),
        ("MATS_IB_PORT", "70000"),
        ("MATS_LEASE_TTL_S", "-1"),
        ("MATS_GATEWAY_SPEED", "0"),
        ("MATS_EQUITY_INTERVAL_S", "nan"),
        ("MATS_ALLOW_LIVE", "perhaps"),
        ("MATS_WEB_PORT", ""),
        ("MATS_WEB_PORT", "80.5"),
        ("MATS_GATEWAY_SPEED", "1x0"),
        ("MATS_STOP_TIMEOUT_S", "inf"),
        ("MATS_LOG_LEVEL", "LOUD"),
        ("MATS_QUEUE_SIZE", "0.5"),
        ("MATS_QUEUE_SIZE", "1e9"),
        ("MATS_MAX_CLIENTS", "2"),
        ("MATS_ARCTIC_URI", "nonsense"),
        ("DATABASE_URL", "garbage"),
        ("MATS_IB_RESET_WINDOW", "midnight"),
        ("MATS_IB_WEEKLY_RESET", "01:00-01:45"),
        ("MATS_GATEWAY_RESTART_AT", "24:30"),
        ("MATS_ALERT_URLS", "urgent=json://127.0.0.1"),
        ("MATS_ALERT_QUIET", "night"),
        ("MATS_IB_MESSAGES_PER_S", "0"),
    ],
)
def test_unusable_value_stops_the_start_and_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        read_environment()


def test_paper_on_this_machine_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("MATS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MATS_HOME", str(tmp_path))
    environment = read_environment()
    assert (environment.ib_host, environment.ib_port, environment.web_host) == ("127.0.0.1", 7497, "127.0.0.1")
    assert not environment.allow_live
    assert not environment.debug


def test_secret_key_is_made_once_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "home" / "secret_key"
    first = secret_key(path)
    assert len(first) >= 50
    assert secret_key(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_short_secret_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret_key"
    path.write_text("short")
    with pytest.raises(ConfigError, match="too short"):
        secret_key(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("MATS_FLEX_TOKEN", "se cret!"), ("MATS_FLEX_QUERY", "123456789012345678901234"), ("MATS_FLEX_QUERY", "abc")],
)
def test_a_bad_flex_setting_is_named_but_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name) as caught:
        read_environment()
    assert value not in str(caught.value)


def test_the_flex_token_does_not_travel_unprotected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATS_FLEX_URL", "http://example.com/flex")
    with pytest.raises(ConfigError, match="https"):
        read_environment()


def test_the_flex_token_is_not_shown_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATS_FLEX_TOKEN", "9876canary")
    environment = read_environment()
    assert environment.flex_token == "9876canary"
    assert "9876canary" not in repr(environment)


def test_resets_are_ibs_own_with_a_real_gateway_and_none_with_the_paper_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MATS_IB_RESET_WINDOW", "MATS_IB_WEEKLY_RESET", "MATS_GATEWAY_RESTART_AT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MATS_EMBEDDED_GATEWAY", "true")
    assert read_environment().resets == ()
    monkeypatch.setenv("MATS_EMBEDDED_GATEWAY", "false")
    monkeypatch.setenv("MATS_GATEWAY_RESTART_AT", "23:45 Europe/Zurich")
    assert [str(rule.kind) for rule in read_environment().resets] == ["nightly", "weekly", "restart"]
    monkeypatch.setenv("MATS_IB_RESET_WINDOW", "off")
    assert [str(rule.kind) for rule in read_environment().resets] == ["weekly", "restart"]


def test_alert_addresses_are_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATS_ALERT_URLS", "critical=tgram://123456:secret-token/99")
    assert "secret-token" not in repr(read_environment())
