"""Shared fixtures; each package keeps its own beside its tests."""

from __future__ import annotations

import gc
import os
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A run of the suite tells the same twice; new examples are looked for with MATS_EXPLORE=1 and by `make prove`.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", print_blob=True, deadline=None)
settings.load_profile("explore" if os.environ.get("MATS_EXPLORE") else "repeatable")

LOWEST_PORT, HIGHEST_PORT = 20_000, 32_000  # below the ephemeral range, where outgoing connections could sit


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep together what shares something, when several workers run."""
    from tests.support.schedule import ByFile

    return ByFile(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture
def free_port() -> int:
    """A loopback port below the ephemeral range that nothing listens on."""
    start = random.randrange(LOWEST_PORT, HIGHEST_PORT)
    for port in (*range(start, HIGHEST_PORT), *range(LOWEST_PORT, start)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(port)
    raise OSError("no free port between 20000 and 32000")


@pytest.fixture(autouse=True)
def _fresh_history_span() -> None:
    """Forget the requests for history of tests before: sixty in ten minutes is IB's limit, and it is kept by home."""
    home = os.environ.get("MATS_HOME")
    if home:
        Path(home, "run", "history.span").unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def _few_open_stores() -> Iterator[None]:
    """Close the research stores that tests left open: each holds some ten descriptors, and a process has 1,024."""
    yield
    module = sys.modules.get("portfolio.arctic.client")
    if module is not None and len(module._clients) > 3:
        module._clients.clear()
        gc.collect()
