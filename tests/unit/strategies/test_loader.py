"""From a file name to a class, and every way in which that is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from strategies.exceptions import LoadError
from strategies.loader import (
    inspect_file,
    list_strategy_files,
    load_strategy_class,
    registered_folders,
)
from tests.unit.strategies.conftest import PLAIN, TYPED


@pytest.fixture
def own(tmp_path: Path) -> Path:
    made = tmp_path / "own"
    made.mkdir()
    return made


def code_of(filename: str, *folders: Path) -> str:
    with pytest.raises(LoadError) as caught:
        load_strategy_class(filename, folders)
    assert caught.value.message
    return caught.value.code


def test_typed_file_gives_class_model_defaults_and_hash(own: Path) -> None:
    (own / "typed.py").write_text(TYPED)
    loaded = load_strategy_class("typed.py", [own])
    assert loaded.cls.__name__ == "TypedStrategy"
    assert loaded.params_model is not None
    assert loaded.params["length"] == 10
    assert loaded.kind == "imperative"
    assert len(loaded.sha256) == 64


def test_plain_file_gives_its_dict(own: Path) -> None:
    (own / "plain.py").write_text(PLAIN)
    loaded = load_strategy_class("plain.py", [own])
    assert loaded.params_model is None
    assert loaded.params["names"] == ["a"]


def test_every_load_is_fresh_and_sees_edits(own: Path) -> None:
    (own / "plain.py").write_text(PLAIN)
    first = load_strategy_class("plain.py", [own])
    (own / "plain.py").write_text(PLAIN.replace('"length": 10', '"length": 11'))
    second = load_strategy_class("plain.py", [own])
    assert first.module is not second.module
    assert first.module.__name__ != second.module.__name__
    assert (first.params["length"], second.params["length"]) == (10, 11)
    assert first.sha256 != second.sha256


@pytest.mark.parametrize(
    "name",
    ["../plain.py", "..\\plain.py", "/etc/passwd", "a/b.py", "", "..", ".", "//x.py", "./plain.py"],
)
def test_paths_are_refused(own: Path, name: str) -> None:
    (own.parent / "plain.py").write_text(PLAIN)
    assert code_of(name, own) == "outside_folder"


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "plain.txt",
        "pla in.py",
        "1plain.py",
        "plain.py\0",
        "pl\0ain.py",
        "plain.py\n",
        "__init__.py",
        "é.py",
        "x" * 65 + ".py",
        "os;.py",
        "plain.pyc",
        ".hidden.py",
        "%2e%2e.py",
    ],
)
def test_names_outside_the_pattern_are_refused(own: Path, name: str) -> None:
    assert code_of(name, own) == "bad_name"


def test_missing_file_names_the_folders(own: Path) -> None:
    with pytest.raises(LoadError, match=str(own)) as caught:
        load_strategy_class("nothere.py", [own])
    assert caught.value.code == "not_found"


def test_folder_with_the_name_of_a_file_is_not_a_file(own: Path) -> None:
    (own / "folder.py").mkdir()
    assert code_of("folder.py", own) == "not_found"


def test_link_out_of_the_folder_is_refused_and_its_target_does_not_run(own: Path, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    (tmp_path / "outside.py").write_text(f"open({str(trace)!r}, 'w').close()\n{PLAIN}")
    (own / "link.py").symlink_to(tmp_path / "outside.py")
    assert code_of("link.py", own) == "symlink_outside"
    assert not trace.exists()
    assert list_strategy_files([own]) == []


def test_link_within_the_folder_is_followed(own: Path) -> None:
    (own / "plain.py").write_text(PLAIN)
    (own / "other.py").symlink_to(own / "plain.py")
    assert load_strategy_class("other.py", [own]).cls.__name__ == "PlainStrategy"


def test_folder_may_itself_be_a_link(own: Path, tmp_path: Path) -> None:
    (own / "plain.py").write_text(PLAIN)
    (tmp_path / "alias").symlink_to(own)
    assert load_strategy_class("plain.py", [tmp_path / "alias"]).path == own / "plain.py"


def test_same_name_in_two_folders_is_ambiguous(own: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (own / "plain.py").write_text(PLAIN)
    (other / "plain.py").write_text(PLAIN)
    assert code_of("plain.py", own, other) == "ambiguous"


def test_same_folder_registered_twice_is_not_ambiguous(own: Path) -> None:
    (own / "plain.py").write_text(PLAIN)
    assert load_strategy_class("plain.py", [own, own]).cls.__name__ == "PlainStrategy"


@pytest.mark.parametrize("text", ["def (:", "x = 1\n  y = 2", "\0", "(" * 500])
def test_what_is_not_python_is_a_syntax_error(own: Path, text: str) -> None:
    (own / "bad.py").write_text(text)
    assert code_of("bad.py", own) == "syntax_error"


def test_syntax_error_names_the_line(own: Path) -> None:
    (own / "bad.py").write_text("x = 1\ny = = 2\n")
    with pytest.raises(LoadError, match=r"bad\.py, line 2"):
        load_strategy_class("bad.py", [own])


@pytest.mark.parametrize(
    "text",
    ["1/0", "import nothing_of_this_name", "raise SystemExit(3)", "import sys; sys.exit()", "raise KeyboardInterrupt"],
)
def test_import_that_raises_is_only_this_files_error(own: Path, text: str) -> None:
    (own / "bad.py").write_text(text)
    before = set(sys.modules)
    assert code_of("bad.py", own) == "import_failed"
    assert not [name for name in set(sys.modules) - before if name.startswith("mats_strategy_")]


@pytest.mark.parametrize(
    "text",
    [
        "x = 1",
        "class LonelyStrategy: ...",
        "from strategies.base import BaseStrategy",
        "from strategies.library.ma_cross import MaCrossStrategy",
        "from strategies.base import BaseStrategy\nclass HalfStrategy(BaseStrategy): ...",
    ],
)
def test_file_without_a_complete_class_of_its_own(own: Path, text: str) -> None:
    (own / "none.py").write_text(text)
    assert code_of("none.py", own) == "no_class"


def test_two_strategies_in_one_file_are_refused(own: Path) -> None:
    (own / "two.py").write_text(PLAIN + PLAIN.replace("PlainStrategy", "SecondStrategy"))
    assert code_of("two.py", own) == "two_classes"


def test_class_named_strategy_is_preferred_and_bases_do_not_count(own: Path) -> None:
    extra = PLAIN.replace("PlainStrategy", "Common") + "\nclass RealStrategy(Common): ...\nclass Odd(Common): ...\n"
    (own / "several.py").write_text(extra)
    assert load_strategy_class("several.py", [own]).cls.__name__ == "RealStrategy"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace('"names": ["a"]', '"names": {1, 2}'),
        PLAIN.replace('"ratio": 0.5', '"ratio": float("nan")'),
        PLAIN + "\nPARAMS = [1]\n",
        PLAIN + "\nclass Params: ...\n",
    ],
)
def test_parameters_that_cannot_be_stored_are_refused(own: Path, text: str) -> None:
    (own / "odd.py").write_text(text)
    assert code_of("odd.py", own) == "bad_params"


def test_inspection_reads_without_running(own: Path, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    (own / "typed.py").write_text(f'"""What it does."""\nopen({str(trace)!r}, "w").close()\n{TYPED}')
    facts = inspect_file("typed.py", [own])
    assert (facts.class_name, facts.kind, facts.description) == ("TypedStrategy", "imperative", "What it does.")
    assert facts.params == {"length": 10, "cap": None}
    assert facts.typed_params
    assert not trace.exists()


def test_inspection_reads_plain_dicts_and_leaves_out_what_is_computed(own: Path) -> None:
    (own / "plain.py").write_text(PLAIN + '\nPARAMS = {**{"a": 1}, "b": len("x"), "c": {1}, "d": -2}\n')
    facts = inspect_file("plain.py", [own])
    assert facts.params["length"] == 10
    (own / "plain.py").write_text('PARAMS = {**{"a": 1}, "b": len("x"), "c": {1}, "d": -2}')
    assert inspect_file("plain.py", [own]).params == {"a": 1, "d": -2}


def test_shipped_files_load_and_are_registered() -> None:
    names = [path.name for path in list_strategy_files(registered_folders()[:2])]
    imperative = {"ma_cross.py", "mean_reversion.py", "old_style.py", "template_strategy.py"}
    reactive = {"rsi_strategy.py", "simple_ma_cross.py", "vwap_strategy.py"}
    assert set(names) == imperative | reactive
    assert {name for name in names if inspect_file(name).kind == "reactive"} == reactive
    for name in names:
        assert load_strategy_class(name).cls.__name__ == inspect_file(name).class_name
