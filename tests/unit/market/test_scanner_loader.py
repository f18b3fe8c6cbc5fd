"""From a scanner's name to its class: registered folders only, one clear sentence otherwise; parameters are typed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from strategies.exceptions import ConfigError, LoadError
from trading.market.scanners.base import check_config
from trading.market.scanners.loader import list_scanners, load_scanner

OWN = """
from trading.market.scanners.base import BaseScanner, ScanResult

class MineScanner(BaseScanner):
    def scan(self, context):
        return ScanResult()
"""


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.MATS = dataclasses.replace(settings.MATS, strategy_path=(tmp_path,))
    made = tmp_path / "scanners"
    made.mkdir()
    return made


def test_the_shipped_scanners_are_there(folder: Path) -> None:
    assert list_scanners() == ["scanners.gap", "scanners.ib_scanner", "scanners.momentum"]
    loaded = load_scanner("scanners.gap")
    assert (loaded.cls.__name__, len(loaded.sha256), loaded.cls.needs_ib) == ("GapScanner", 64, False)
    assert load_scanner("scanners.ib_scanner").cls.needs_ib


def test_files_of_the_folder_scanners_in_a_strategy_folder_count_and_others_do_not(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "mine.py").write_text(OWN)
    (tmp_path / "beside.py").write_text(OWN)
    assert "scanners.mine" in list_scanners()
    assert load_scanner("scanners.mine").cls.__name__ == "MineScanner"
    with pytest.raises(LoadError) as caught:
        load_scanner("scanners.beside")
    assert caught.value.code == "not_found"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("os.path", "unknown_package"),
        ("strategies.examples.simple_ma_cross", "unknown_package"),
        ("scanners.../../etc/passwd", "unknown_package"),
        ("../gap", "unknown_package"),
        ("scanners.", "bad_name"),
        ("scanners.none_such", "not_found"),
    ],
)
def test_a_name_never_becomes_a_path_unchecked(folder: Path, name: str, code: str) -> None:
    with pytest.raises(LoadError) as caught:
        load_scanner(name)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("x = 1\n", "no_class"),
        ("def broken(:\n", "syntax_error"),
        ("raise SystemExit(3)\n", "import_failed"),
        ("from trading.market.scanners.base import BaseScanner\nclass Half(BaseScanner):\n    pass\n", "no_class"),
        (OWN + OWN.replace("Mine", "Other"), "two_classes"),
    ],
)
def test_a_file_that_is_no_scanner_is_told(folder: Path, source: str, code: str) -> None:
    (folder / "bad.py").write_text(source)
    with pytest.raises(LoadError) as caught:
        load_scanner("scanners.bad")
    assert caught.value.code == code
    assert "bad.py" in caught.value.message


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.py"
    outside.write_text(OWN)
    (folder / "linked.py").symlink_to(outside)
    assert "scanners.linked" not in list_scanners()
    with pytest.raises(LoadError) as caught:
        load_scanner("scanners.linked")
    assert caught.value.code == "symlink_outside"


@pytest.mark.parametrize(
    ("module", "config", "place"),
    [
        ("scanners.gap", {"min_gap": 3}, "min_gap"),
        ("scanners.gap", {"min_gap_percent": 0}, "min_gap_percent"),
        ("scanners.gap", {"interval": "1d"}, "interval"),
        ("scanners.momentum", {"universe": "SPY"}, "universe"),
        ("scanners.ib_scanner", {"most": 51}, "most"),
    ],
)
def test_parameters_are_checked_by_place(module: str, config: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_config(load_scanner(module).cls, config)
    assert caught.value.code == "bad_scanner_config"
    assert place in caught.value.fields["errors"]


def test_defaults_are_those_of_the_rules() -> None:
    gap = load_scanner("scanners.gap").cls({}).params.model_dump()
    momentum = load_scanner("scanners.momentum").cls({}).params.model_dump()
    assert (gap["min_gap_percent"], gap["min_volume"], gap["max_price"]) == (2.0, 1_000_000, 500.0)
    assert (momentum["min_volume"], momentum["period"]) == (500_000, 20)
