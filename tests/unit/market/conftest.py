"""A home and a store of the test's own, for what stores data without an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portfolio.arctic.client import ArcticClient, get_ac


@pytest.fixture
def store(settings: Any, tmp_path: Path) -> ArcticClient:
    """The configured store, empty."""
    uri = f"lmdb://{tmp_path / 'arctic'}?map_size=128MB"
    settings.MATS = replace(settings.MATS, mats_home=tmp_path, arctic_uri=uri)
    return get_ac()
