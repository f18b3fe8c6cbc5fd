"""Parameters: defaults, bounds, and one sentence per wrong value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from strategies.exceptions import ConfigError
from strategies.params import PARAMS, BaseParams, validate_params
from strategies.params_form import form_schema, form_values


class Params(BaseParams):
    length: int = Field(default=10, ge=2)
    cap: float | None = Field(default=None, gt=0)


@dataclass(frozen=True)
class File:
    params: dict[str, Any]
    params_model: type[BaseModel] | None = None


TYPED = File({}, Params)
PLAIN = File({"length": 10, "ratio": 0.5, "on": True, "names": ["a"], "free": None, "max_daily_trades": 5})


def errors_of(file: File, given: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        validate_params(file, given)
    assert caught.value.code == "bad_params"
    return dict(caught.value.fields["errors"])


def test_base_fields_have_the_documented_defaults() -> None:
    assert PARAMS == {
        "universe": "",
        "min_weight": 0.0,
        "max_weight": 1.0,
        "target_weight": 0.0,
        "currency": "USD",
        "max_position_size": 1.0,
        "risk_per_trade": 0.01,
        "max_daily_loss": None,
        "max_daily_trades": None,
        "stop_loss": 0.07,
        "trailing_stop_loss": 0.20,
        "take_profit": 0.35,
    }


def test_every_base_field_says_what_it_means() -> None:
    assert all(field.description for field in BaseParams.model_fields.values())


def test_what_is_given_is_completed_with_defaults() -> None:
    checked = validate_params(TYPED, {"length": 5})
    assert (checked["length"], checked["cap"], checked["stop_loss"]) == (5, None, 0.07)


def test_the_older_name_of_take_profit_is_understood() -> None:
    assert validate_params(TYPED, {"profit_target": 0.5})["take_profit"] == 0.5


def test_every_wrong_value_has_its_own_sentence() -> None:
    errors = errors_of(TYPED, {"length": 1, "cap": "x", "typo": 1})
    assert set(errors) == {"length", "cap", "typo"}
    assert errors["typo"] == "Unknown parameter."


@pytest.mark.parametrize("value", [-0.1, 1.1, "a", None])
def test_fractions_stay_between_zero_and_one(value: Any) -> None:
    assert set(errors_of(TYPED, {"target_weight": value})) == {"target_weight"}


def test_plain_dict_takes_the_types_of_its_defaults() -> None:
    checked = validate_params(PLAIN, {"ratio": 2, "names": [], "free": {"any": 1}})
    assert (checked["ratio"], checked["names"], checked["free"], checked["length"]) == (2, [], {"any": 1}, 10)
    assert checked["max_daily_trades"] == 5
    assert checked["currency"] == "USD"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("length", "ten", "Give a whole number, not text."),
        ("length", 1.5, "Give a whole number, not a number."),
        ("length", True, "Give a whole number, not true or false."),
        ("on", 1, "Give true or false, not a whole number."),
        ("names", "a", "Give a list, not text."),
        ("ratio", None, "Give a number, not nothing."),
        ("typo", 1, "Unknown parameter."),
    ],
)
def test_plain_dict_refuses_other_types_and_names(name: str, value: Any, sentence: str) -> None:
    assert errors_of(PLAIN, {name: value}) == {name: sentence}


def test_plain_dict_checks_the_base_fields_too() -> None:
    assert set(errors_of(PLAIN, {"stop_loss": 7, "length": "x"})) == {"stop_loss", "length"}


def test_form_schema_has_no_options_and_no_row_fields() -> None:
    properties = form_schema(Params)["properties"]
    assert list(properties)[:3] == ["universe", "length", "cap"]
    assert properties["cap"]["type"] == ["number", "null"]
    assert properties["cap"]["exclusiveMinimum"] == 0
    assert not {"min_weight", "target_weight", "max_weight", "currency"} & set(properties)
    assert set(form_values(PARAMS)) == set(PARAMS) - {"min_weight", "target_weight", "max_weight", "currency"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["length", "cap", "universe", "target_weight", "ratio", "on", "names", "profit_target", "x"])


@given(given_params=st.dictionaries(NAMES, JSON, max_size=5), file=st.sampled_from([TYPED, PLAIN]))
def test_anything_given_is_accepted_whole_or_refused_by_name(given_params: dict[str, Any], file: File) -> None:
    refused: dict[str, str] = {}
    checked: dict[str, Any] = {}
    try:
        checked = validate_params(file, given_params)
    except ConfigError as error:
        refused = error.fields["errors"]
    if refused:
        assert all(isinstance(text, str) and text for text in refused.values())
    else:
        assert set(checked) >= set(PARAMS)
        assert validate_params(file, checked) == checked or "nan" in repr(checked)
