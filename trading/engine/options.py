"""What the engine reads of the settings, and which account they allow.

Rule: paper is the default; real money needs MATS_ALLOW_LIVE and the account's id in MATS_LIVE_ACCOUNT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from strategies.exceptions import ConfigError
from trading.alert_rules import Channel, QuietHours
from trading.engine.resets import ResetRule
from trading.ib.connection import PAPER_PREFIX


class EngineSettings(Protocol):
    """The part of ``settings.MATS`` that the engine needs. Units: ``*_s`` seconds."""

    @property
    def mats_home(self) -> Path: ...
    @property
    def ib_host(self) -> str: ...
    @property
    def ib_port(self) -> int: ...
    @property
    def ib_account(self) -> str: ...
    @property
    def ib_connect_timeout_s(self) -> float: ...
    @property
    def max_clients(self) -> int: ...
    @property
    def allow_live(self) -> bool: ...
    @property
    def live_account(self) -> str: ...
    @property
    def equity_interval_s(self) -> float: ...
    @property
    def queue_size(self) -> int: ...
    @property
    def stop_timeout_s(self) -> float: ...
    @property
    def lease_ttl_s(self) -> float: ...
    @property
    def resets(self) -> Sequence[ResetRule]: ...
    @property
    def link_patience_s(self) -> float: ...
    @property
    def messages_per_s(self) -> int: ...
    @property
    def market_lines(self) -> int: ...
    @property
    def strategies_per_connection(self) -> int: ...
    @property
    def margin_every_s(self) -> int: ...
    @property
    def alert_channels(self) -> Sequence[Channel]: ...
    @property
    def alert_quiet(self) -> QuietHours: ...
    @property
    def alert_repeat_s(self) -> float: ...
    @property
    def alerts_per_hour(self) -> int: ...


@dataclass(frozen=True, slots=True)
class AccountRule:
    """Which account a connection must have; empty ``account`` means the first paper account."""

    account: str
    paper_only: bool


def account_rule(settings: EngineSettings) -> AccountRule:
    """Return the rule that the settings mean.

    Raises: ConfigError when live trading is only half switched on.
    """
    if not settings.allow_live:
        _require_paper("MATS_IB_ACCOUNT", settings.ib_account)
        _require_paper("MATS_LIVE_ACCOUNT", settings.live_account)
        return AccountRule(settings.ib_account, paper_only=True)
    if not settings.live_account:
        raise ConfigError(
            "MATS_ALLOW_LIVE is set, MATS_LIVE_ACCOUNT is not: name the account that may trade real money.",
            code="live_account_missing",
        )
    if settings.ib_account and settings.ib_account != settings.live_account:
        raise ConfigError(
            f"MATS_IB_ACCOUNT ({settings.ib_account}) and MATS_LIVE_ACCOUNT ({settings.live_account}) differ.",
            code="live_account_differs",
        )
    return AccountRule(settings.live_account, paper_only=False)


def bind_to_ledger(rule: AccountRule, ledger_accounts: Sequence[str]) -> AccountRule:
    """Return the rule narrowed to the account that the ledger was opened with; an empty ledger narrows nothing.

    Raises: ConfigError when the settings mean another account: its trades would be booked beside the first one's.
    """
    if not ledger_accounts or rule.account in ledger_accounts:
        return rule
    owners = ", ".join(ledger_accounts)
    if rule.account or len(ledger_accounts) > 1:
        raise ConfigError(
            f"This ledger belongs to {owners}; the settings name {rule.account or 'no account'}. "
            "Give each account a MATS_HOME of its own, or set MATS_IB_ACCOUNT to the ledger's.",
            code="ledger_of_other_account",
        )
    if rule.paper_only:
        _require_paper("The ledger", owners)
    return AccountRule(owners, rule.paper_only)


def _require_paper(setting: str, account: str) -> None:
    if account and not account.startswith(PAPER_PREFIX):
        raise ConfigError(
            f"{setting} names {account}, which is not a paper account. MATS trades real money only when "
            "MATS_ALLOW_LIVE=true and MATS_LIVE_ACCOUNT names the account.",
            code="not_a_paper_account",
            account=account,
        )
