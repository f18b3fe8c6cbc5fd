"""A PostgreSQL server of the test's own, where its package is installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import postgres


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    """A running server that a test may stop and start; the test is skipped where there is none."""
    if postgres.folder_of_binaries() is None:
        pytest.skip(postgres.MISSING)
    with postgres.server() as made:
        yield made
