"""An ingest against the paper gateway: a home of its own, a store of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from portfolio.arctic.client import ArcticClient, get_ac

Home = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Point the settings at an own home; more settings by name."""
    from django.conf import settings

    found: list[Any] = []

    def use(**changes: Any) -> Any:
        uri = f"lmdb://{tmp_path / 'arctic'}?map_size=256MB"
        made = override_settings(MATS=replace(settings.MATS, mats_home=tmp_path, arctic_uri=uri, **changes))
        made.enable()
        found.append(made)
        return settings.MATS

    yield use
    for made in reversed(found):
        made.disable()


@pytest.fixture
def store(home: Home) -> ArcticClient:
    """The store of that home."""
    home()
    return get_ac()
