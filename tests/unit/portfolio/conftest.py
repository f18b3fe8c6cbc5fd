"""A real ArcticDB in a folder of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from portfolio.arctic.client import ArcticClient, get_ac


@pytest.fixture
def arctic(tmp_path: Path) -> ArcticClient:
    """A client on an empty store."""
    return get_ac(f"lmdb://{tmp_path / 'arctic'}?map_size=64MB")
