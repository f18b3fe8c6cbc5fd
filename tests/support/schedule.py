"""Which tests stay on one worker: those that share what is dear to make, or that would disturb each other.

By file, because marks do not reach the scheduler: pytest-xdist writes a group into a test's id, which pytest 9 keeps.
The rest goes wherever a worker is free, test by test.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER: dict[str, tuple[str, ...]] = {
    # One Chromium and one web process for each half: pages here, stories with engines and jobs there.
    "pages": ("tests/browser/test_books.py", "tests/browser/test_console.py", "tests/browser/test_calendars.py"),
    "stories": ("tests/browser/",),
    # Engines are killed one after the other: each proof keeps a core busy by itself.
    "kill": ("tests/e2e/kill/test_kill_loop.py", "tests/e2e/engine/test_reactive_replay.py"),
    # One history, storm, server or site for all tests of the file.
    "power": ("tests/e2e/kill/test_power_loss.py",),
    "postgres": ("tests/integration/ledger/test_engine_on_postgres.py",),
    "parcels": ("tests/unit/portfolio/test_parcels_crash.py",),
    "s3": ("tests/integration/test_arctic_s3.py",),
    "socket": ("tests/integration/web/test_socket.py",),
    "gateway data": ("tests/e2e/gateway/test_gateway_data.py",),
}


def group_of(nodeid: str) -> str:
    """Return what a test stays together with: a group, or itself alone."""
    return next((name for name, paths in TOGETHER.items() if nodeid.startswith(paths)), nodeid)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands groups out whole, the large ones first, and all other tests one by one."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
