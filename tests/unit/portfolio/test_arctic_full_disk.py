"""A disk that is nearly full: ArcticDB is not written to, since a commit that finds no room ends the process."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from portfolio.arctic.client import ArcticClient, ArcticUnavailableError
from portfolio.arctic.writer import ArcticWriter


def test_nothing_is_written_on_a_disk_that_is_nearly_full(
    arctic: ArcticClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ArcticWriter(client=arctic)
    frame = pd.DataFrame({"value": [1.0]})
    writer.write("general", "table", frame, None)

    def nearly_full(path: Any) -> SimpleNamespace:
        return SimpleNamespace(total=10**9, used=10**9 - 10**6, free=10**6)

    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    for write in (writer.write, writer.append):
        with pytest.raises(ArcticUnavailableError, match="1 MB free"):
            write("general", "table", frame, None)
    with pytest.raises(ArcticUnavailableError, match="1 MB free"):
        writer.write("another", "table", frame, None)
    assert not arctic.has_library("another")
    assert len(arctic.read("general", "table").data) == 1
    writer.close()
