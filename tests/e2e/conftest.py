"""Fixtures of whole sessions: a strategy folder of the test's own, with a folder of scanners in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.support.session_files import FINDER, GATES, recorder


@pytest.fixture
def session_files(settings: Any, tmp_path: Path) -> Path:
    """Strategies ``recorder``, ``follower`` (follows promoted symbols) and ``other``, and the scanner ``finder``."""
    GATES.clear()
    settings.MATS = dataclasses.replace(settings.MATS, strategy_path=(tmp_path,))
    (tmp_path / "recorder.py").write_text(recorder("Recorder"))
    (tmp_path / "other.py").write_text(recorder("Other"))
    (tmp_path / "follower.py").write_text(recorder("Follower", auto=True))
    scanners = tmp_path / "scanners"
    scanners.mkdir()
    (scanners / "finder.py").write_text(FINDER)
    return tmp_path
