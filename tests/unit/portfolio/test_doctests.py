"""The examples in the ledger's docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import portfolio.arctic
import portfolio.ledger

MODULES = [
    name
    for package in (portfolio.ledger, portfolio.arctic)
    for _, name, _ in pkgutil.iter_modules(package.__path__, package.__name__ + ".")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_rules_of_a_fill_are_shown_by_examples() -> None:
    assert doctest.testmod(importlib.import_module("portfolio.ledger.positions")).attempted >= 6
