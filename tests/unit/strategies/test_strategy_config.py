"""StrategyConfig, and from a module's name in a session to a class."""

from __future__ import annotations

from pathlib import Path

import pytest

from strategies.exceptions import ConfigError, LoadError
from strategies.loader import expected_class_name, load_strategy_class, load_strategy_module
from strategies.params import ReactiveParams, validate_params
from strategies.params_form import form_schema
from strategies.reactive import ReactiveStrategy, StrategyConfig

REACTIVE = """
from strategies.reactive import ReactiveStrategy
class {name}(ReactiveStrategy):
    def get_subscriptions(self): return []
    def on_bars(self, symbol, interval): return []
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    made = tmp_path / "own"
    made.mkdir()
    return made


def test_defaults_are_enabled_and_empty() -> None:
    config = StrategyConfig("strategies.examples.simple_ma_cross")
    assert config.enabled is True
    assert config.config == {}
    config.validate()


def test_configurations_do_not_share_their_dict() -> None:
    first, second = StrategyConfig("a"), StrategyConfig("b")
    first.config["x"] = 1
    assert second.config == {}


def test_empty_module_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the path"):
        StrategyConfig("").validate()


@pytest.mark.parametrize("module", ["a-b", "a..b", ".a", "a.", "a.1b", "a/b", "os;x", "a b", "../a"])
def test_module_that_is_no_dotted_name_is_refused(module: str) -> None:
    with pytest.raises(ValueError, match="no module path"):
        StrategyConfig(module).validate()


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("simple_ma_cross", "SimpleMaCrossStrategy"),
        ("rsi_strategy", "RsiStrategy"),
        ("vwap_strategy", "VwapStrategy"),
        ("momentum", "MomentumStrategy"),
    ],
)
def test_class_names_follow_the_file_without_a_doubled_suffix(name: str, cls: str) -> None:
    assert expected_class_name(name) == cls


@pytest.mark.parametrize("name", ["simple_ma_cross", "rsi_strategy", "vwap_strategy"])
def test_shipped_examples_load_as_reactive_strategies_with_typed_parameters(name: str) -> None:
    loaded = load_strategy_module(f"strategies.examples.{name}")
    assert loaded.kind == "reactive"
    assert issubclass(loaded.cls, ReactiveStrategy)
    assert loaded.cls.__name__ == expected_class_name(name)
    assert loaded.params_model is not None
    assert validate_params(loaded, {"symbols": ["AAPL"]})["symbols"] == ["AAPL"]


@pytest.mark.parametrize("module", ["os.path", "strategies.models", "strategies.services", "trading.models", "a.b.c"])
def test_modules_outside_of_the_strategy_packages_are_refused_unrun(module: str) -> None:
    with pytest.raises(LoadError) as caught:
        load_strategy_module(module)
    assert caught.value.code == "unknown_package"


def test_own_file_is_named_without_a_package(own: Path) -> None:
    (own / "mine.py").write_text(REACTIVE.format(name="MineStrategy"))
    loaded = load_strategy_module("mine", [own])
    assert (loaded.cls.__name__, loaded.kind) == ("MineStrategy", "reactive")
    assert len(loaded.sha256) == 64


def test_imported_bases_do_not_count(own: Path) -> None:
    (own / "only_import.py").write_text("from strategies.examples.simple_ma_cross import SimpleMaCrossStrategy\n")
    with pytest.raises(LoadError) as caught:
        load_strategy_class("only_import.py", [own])
    assert caught.value.code == "no_class"


def test_of_several_classes_the_one_named_like_the_file_is_taken(own: Path) -> None:
    (own / "pair.py").write_text(REACTIVE.format(name="OtherStrategy") + REACTIVE.format(name="PairStrategy"))
    assert load_strategy_class("pair.py", [own]).cls.__name__ == "PairStrategy"


def test_several_classes_without_one_named_like_the_file_are_refused(own: Path) -> None:
    (own / "three.py").write_text(REACTIVE.format(name="OneStrategy") + REACTIVE.format(name="TwoStrategy"))
    with pytest.raises(LoadError) as caught:
        load_strategy_class("three.py", [own])
    assert caught.value.code == "two_classes"


def test_reactive_file_without_parameters_of_its_own_has_the_common_ones(own: Path) -> None:
    (own / "bare.py").write_text(REACTIVE.format(name="BareStrategy"))
    loaded = load_strategy_class("bare.py", [own])
    assert loaded.params_model is ReactiveParams
    assert (loaded.params["min_quality"], loaded.params["allow_short"]) == (95.0, False)


def test_plain_parameters_are_completed_by_the_gates_so_that_live_and_backtest_agree(own: Path) -> None:
    (own / "plain.py").write_text('PARAMS = {"symbols": ["AAPL"], "n": 3}\n' + REACTIVE.format(name="PlainStrategy"))
    loaded = load_strategy_class("plain.py", [own])
    assert loaded.params_model is None
    assert (loaded.params["n"], loaded.params["allow_short"], loaded.params["min_quality"]) == (3, False, 95.0)
    assert validate_params(loaded, {"n": 4, "allow_short": True})["allow_short"] is True
    with pytest.raises(ConfigError, match="n: Give a whole number"):
        validate_params(loaded, {"n": "x"})


def test_form_offers_symbols_and_own_fields_first_and_no_universe() -> None:
    model = load_strategy_module("strategies.examples.simple_ma_cross").params_model
    assert model is not None
    names = list(form_schema(model)["properties"])
    assert names[:2] == ["symbols", "interval"]
    assert "universe" not in names
    assert names.index("slow_period") < names.index("min_quality") < names.index("max_position_size")
