"""Real money needs both switches; half of them stops the start, before anything is connected."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from django.conf import settings

from strategies.exceptions import ConfigError
from trading.engine.options import AccountRule, account_rule, bind_to_ledger


def rule(**changes: Any) -> AccountRule:
    blank = {"ib_account": "", "live_account": "", "allow_live": False}
    return account_rule(dataclasses.replace(settings.MATS, **{**blank, **changes}))


@pytest.mark.parametrize("setting", ["ib_account", "live_account"])
def test_live_account_without_the_switch_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"MATS_{setting.upper()} names U1234567, which is not a paper account"):
        rule(**{setting: "U1234567"})


def test_switch_without_the_account_is_refused() -> None:
    with pytest.raises(ConfigError, match="MATS_LIVE_ACCOUNT is not"):
        rule(allow_live=True)


def test_switches_that_name_two_accounts_are_refused() -> None:
    with pytest.raises(ConfigError, match="differ"):
        rule(allow_live=True, live_account="U1234567", ib_account="U7654321")


def test_paper_account_may_be_named() -> None:
    assert rule(ib_account="DU1000001") == AccountRule("DU1000001", paper_only=True)


def test_ledger_of_one_account_takes_no_other() -> None:
    assert bind_to_ledger(rule(), ["DU1"]) == AccountRule("DU1", paper_only=True)
    with pytest.raises(ConfigError, match="This ledger belongs to DU1; the settings name DU2"):
        bind_to_ledger(rule(ib_account="DU2"), ["DU1"])


def test_ledger_of_a_live_account_needs_the_switches_too() -> None:
    with pytest.raises(ConfigError, match="not a paper account"):
        bind_to_ledger(rule(), ["U1"])
    live = rule(allow_live=True, live_account="U1")
    assert bind_to_ledger(live, ["U1"]) == live
    with pytest.raises(ConfigError, match="belongs to DU1"):
        bind_to_ledger(live, ["DU1"])
