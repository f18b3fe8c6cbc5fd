"""System checks that refuse an unsafe start."""

from __future__ import annotations

import sqlite3
from typing import Any

from django.conf import settings
from django.core import checks

FIXED_SQLITE = ((3, 44, 6), (3, 50, 7), (3, 51, 3))


def _wal_reset_fixed(version: tuple[int, int, int]) -> bool:
    backported = any(version[:2] == fixed[:2] and version >= fixed for fixed in FIXED_SQLITE)
    return backported or version >= (3, 51, 3)


@checks.register(checks.Tags.database)
def sqlite_is_safe(**_: Any) -> list[checks.CheckMessage]:
    """Refuse an SQLite whose WAL-reset race can corrupt a database shared by two processes."""
    if not settings.MATS.database_url.startswith("sqlite"):
        return []
    if _wal_reset_fixed(sqlite3.sqlite_version_info[:3]):
        return []
    return [
        checks.Error(
            f"SQLite {sqlite3.sqlite_version} can corrupt a shared WAL database.",
            hint="Install pysqlite3>=0.6.1 (make env does).",
            id="mats.E001",
        )
    ]


@checks.register(checks.Tags.security)
def live_needs_two_switches(**_: Any) -> list[checks.CheckMessage]:
    """Refuse half-set live switches: real money needs MATS_ALLOW_LIVE and the account id typed."""
    mats = settings.MATS
    if mats.allow_live and not mats.live_account:
        return [
            checks.Error(
                "MATS_ALLOW_LIVE is set without MATS_LIVE_ACCOUNT.",
                hint="Type the live account's id into MATS_LIVE_ACCOUNT, or unset MATS_ALLOW_LIVE.",
                id="mats.E002",
            )
        ]
    return []


@checks.register()
def strategy_folders_exist(**_: Any) -> list[checks.CheckMessage]:
    """Warn of a folder in MATS_STRATEGY_PATH that is not there: its strategies would seem to have vanished."""
    return [
        checks.Warning(
            f"MATS_STRATEGY_PATH names {folder}, which is no folder.",
            hint="Make it, or take it out of MATS_STRATEGY_PATH.",
            id="mats.W001",
        )
        for folder in settings.MATS.strategy_path
        if not folder.is_dir()
    ]
