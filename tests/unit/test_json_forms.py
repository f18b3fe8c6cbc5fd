"""Forms from pydantic models: nothing is lost on the way to the form and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trading.json_forms import form_schema, from_form, to_form
from trading.market.scanners.loader import load_scanner
from trading.market.session_config import load_session_config, parse_session_config
from trading.market.session_parts import SessionConfig

CONFIGS = Path(__file__).resolve().parents[1] / "session_configs"
SCHEMA = form_schema(SessionConfig)
FULL: dict[str, Any] = {
    "mode": "live",
    "session_name": "whole",
    "session_data_config": {
        "symbols": ["SPY", "QQQ"],
        "streams": ["1m", "5m"],
        "historical": {
            "data": [
                {"trailing_days": 5, "intervals": ["1m"], "apply_to": ["SPY"]},
                {"trailing_days": 20, "intervals": ["1d"]},
            ]
        },
        "indicators": {"session": [{"name": "bbands", "period": 20, "interval": "5m", "params": {"num_std": 2.5}}]},
        "scanners": [
            {
                "module": "scanners.gap",
                "regular_session": [{"start": "09:35", "end": "10:30", "interval": "5m"}],
                "config": {"universe": ["AAPL"], "min_gap_percent": 3.5},
            }
        ],
        "strategies": [
            {"module": "strategies.examples.simple_ma_cross", "config": {"symbols": ["SPY"], "deep": {"a": [1]}}}
        ],
    },
    "trading_config": {"max_per_trade": "1234.56", "max_open_positions": 3},
}


def there_and_back(config: SessionConfig) -> SessionConfig:
    stored = json.loads(config.model_dump_json())
    return parse_session_config(from_form(SCHEMA, json.loads(json.dumps(to_form(SCHEMA, stored)))))


@pytest.mark.parametrize("name", ["test_single_strategy", "test_multiple_strategies"])
def test_the_seeds_samples_survive_the_form(name: str) -> None:
    config = load_session_config(CONFIGS / f"{name}.json")
    assert there_and_back(config) == config


def test_a_whole_configuration_survives_the_form() -> None:
    config = parse_session_config(FULL)
    assert there_and_back(config) == config


def test_the_form_asks_for_no_option_and_holds_no_defaults() -> None:
    text = json.dumps(SCHEMA)
    assert "anyOf" not in text
    assert "$ref" not in text
    assert '"default"' not in text
    parts = SCHEMA["properties"]
    assert parts["mode"]["enum"] == ["live", "backtest"]
    assert parts["backtest_config"]["properties"]["commission_per_share"]["type"] == ["number", "null"]
    strategies = parts["session_data_config"]["properties"]["strategies"]
    assert strategies["items"]["properties"]["config"]["widget"] == "textarea"


def test_text_that_is_no_json_is_left_for_the_model_to_refuse() -> None:
    form = to_form(SCHEMA, json.loads(parse_session_config(FULL).model_dump_json()))
    form["session_data_config"]["strategies"][0]["config"] = "{not json"
    assert from_form(SCHEMA, form)["session_data_config"]["strategies"][0]["config"] == "{not json"


def test_an_emptied_field_takes_the_default_and_an_emptied_optional_none() -> None:
    form = to_form(SCHEMA, json.loads(parse_session_config(FULL).model_dump_json()))
    form["trading_config"]["max_per_trade"] = None
    form["api_config"]["data_api"] = ""
    back = from_form(SCHEMA, form)
    assert "max_per_trade" not in back["trading_config"]
    assert back["api_config"]["data_api"] is None
    assert back["backtest_config"] is None


def test_parameters_of_a_scanner_survive_the_form() -> None:
    model = load_scanner("scanners.gap").cls.Params
    schema = form_schema(model)
    params = model(universe=["SPY"]).model_dump(mode="json")
    assert from_form(schema, to_form(schema, params)) == params
