"""Folders and files for strategy tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings as django_settings

FileWriter = Callable[[str, str], Path]

TYPED = """
from pydantic import Field
from strategies.base import BaseStrategy
from strategies.params import BaseParams

class Params(BaseParams):
    length: int = Field(default=10, ge=2, le=50, description="Bars.")
    cap: float | None = Field(default=None, gt=0)

class TypedStrategy(BaseStrategy):
    async def initialize_strategy(self): ...
    async def run_strategy(self): ...
"""

PLAIN = """
from strategies.base import BaseStrategy

PARAMS = {"universe": "SPY", "length": 10, "ratio": 0.5, "on": True, "names": ["a"]}

class PlainStrategy(BaseStrategy):
    async def initialize_strategy(self): ...
    async def run_strategy(self): ...
"""


@pytest.fixture
def folder(tmp_path: Path, settings: object) -> Path:
    """Register a folder of the user's own, beside the shipped ones."""
    made = tmp_path / "own"
    made.mkdir()
    settings.MATS = replace(django_settings.MATS, strategy_path=(made,))  # type: ignore[attr-defined]
    return made


@pytest.fixture
def write_file(folder: Path) -> FileWriter:
    """Write a strategy file into the registered folder."""

    def write(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
