"""``general/strategies``: written from the rows, read back in every shape it ever had."""

# Whole Decimals are compared with ints to stay readable.
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from decimal import Decimal

import pandas as pd
import pytest

from portfolio.arctic.client import ArcticClient
from portfolio.arctic.projections import Projector
from portfolio.arctic.schema import STRATEGIES
from portfolio.arctic.strategies_table import read_strategies
from strategies.exceptions import ConfigError, NotFoundError
from strategies.models import Strategy

pytestmark = pytest.mark.django_db


@pytest.fixture
def alpha() -> Strategy:
    return Strategy.objects.create(
        symbol="ALPHA",
        filename="a.py",
        target_weight=Decimal("0.2"),
        params={"fast": 10, "universe": "AAPL"},
        active=True,
        revision=4,
    )


def write_old(arctic: ArcticClient, frame: pd.DataFrame) -> None:
    arctic.library("general").write("strategies", frame)


def test_row_comes_back_as_it_was_written(arctic: ArcticClient, alpha: Strategy) -> None:
    Projector(client=arctic).sync_strategies()
    (row,) = read_strategies(arctic)
    assert row["strategy_symbol"] == "ALPHA"
    assert row["params"] == {"fast": 10, "universe": "AAPL"}
    assert row["active"] is True
    assert row["target_weight"] == 0.2


def test_columns_are_those_of_the_schema(arctic: ArcticClient, alpha: Strategy) -> None:
    Projector(client=arctic).sync_strategies()
    data = arctic.read("general", "strategies").data
    assert list(data.columns) == list(STRATEGIES)
    assert str(data["active"].dtype) == "bool"
    assert str(data["target_weight"].dtype) == "float64"


def test_sync_marks_the_written_revision_and_no_later_one(arctic: ArcticClient, alpha: Strategy) -> None:
    projector = Projector(client=arctic)
    projector.sync_strategies()
    assert Strategy.objects.get().is_synced
    Strategy.objects.filter(pk=alpha.pk).update(revision=5, target_weight=Decimal("0.3"))
    assert not Strategy.objects.get().is_synced
    projector.sync_strategies()
    assert Strategy.objects.get().is_synced
    assert read_strategies(arctic)[0]["target_weight"] == 0.3


def test_unchanged_table_is_not_written_again(arctic: ArcticClient, alpha: Strategy) -> None:
    projector = Projector(client=arctic)
    projector.sync_strategies()
    projector.sync_strategies()
    assert len(arctic.library("general").list_versions("strategies")) == 1


def test_deleted_strategy_leaves_the_table_even_when_it_was_the_last(arctic: ArcticClient, alpha: Strategy) -> None:
    projector = Projector(client=arctic)
    projector.sync_strategies()
    Strategy.objects.all().delete()
    assert projector.sync_strategies() == 0
    assert read_strategies(arctic) == []


def test_old_names_and_flags_as_text_are_understood(arctic: ArcticClient) -> None:
    write_old(
        arctic,
        pd.DataFrame(
            {
                "strategy_symbol": ["TQQQ", "SVIX"],
                "filename": ["tqqq_strategy.py", "svix.py"],
                "parameters": ['{"a": 1}', ""],
                "active": ["True", "False"],
                "target_weight": [0.3, float("nan")],
            }
        ),
    )
    first, second = read_strategies(arctic)
    assert (first["params"], first["active"], first["target_weight"]) == ({"a": 1}, True, 0.3)
    assert (second["params"], second["active"]) == ({}, False)
    assert "target_weight" not in second


def test_symbols_in_the_index_are_found(arctic: ArcticClient) -> None:
    frame = pd.DataFrame({"filename": ["a.py"]}, index=pd.Index(["ALPHA"], name="strategy_symbol"))
    write_old(arctic, frame)
    assert read_strategies(arctic)[0]["strategy_symbol"] == "ALPHA"


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [("params", "{oops", "JSON"), ("params", "[1]", "object"), ("active", "maybe", "active")],
)
def test_row_that_cannot_be_read_is_named(arctic: ArcticClient, column: str, value: str, word: str) -> None:
    write_old(arctic, pd.DataFrame({"strategy_symbol": ["ALPHA"], column: [value]}))
    with pytest.raises(ConfigError) as caught:
        read_strategies(arctic)
    assert "ALPHA" in caught.value.message
    assert word in caught.value.message


def test_missing_table_says_so(arctic: ArcticClient) -> None:
    with pytest.raises(NotFoundError):
        read_strategies(arctic)


def test_table_without_symbols_is_refused(arctic: ArcticClient) -> None:
    write_old(arctic, pd.DataFrame({"x": [1]}))
    with pytest.raises(ConfigError):
        read_strategies(arctic)
