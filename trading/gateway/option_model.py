"""What an option is worth: Black and Scholes without dividends, its sensitivities, and volatility from a price.

Owns: the formulas, for one price and for arrays.
Leaves: whose volatility and which price of the underlying (``market_derived``).
Rule: American options are valued like European ones; time is in years of 365 days, volatility and rate yearly
fractions. Source: Black, Scholes, The Pricing of Options and Corporate Liabilities (1973). Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

RATE = 0.04  # risk-free, as the carry of index futures
Right = Literal["C", "P"]
Floats = npt.NDArray[np.float64]
_ROOT_2 = math.sqrt(2.0)
_erf = np.vectorize(math.erf, otypes=[np.float64])
_HIGHEST_VOLATILITY = 10.0


@dataclass(frozen=True, slots=True)
class Greeks:
    """An option's figures. Units: theta for a day, vega for one point of volatility (0.01)."""

    volatility: float
    delta: float
    price: float
    gamma: float
    vega: float
    theta: float
    underlying: float


def value(right: Right, underlying: float, strike: float, years: float, volatility: float) -> float:
    """The price of one option on one unit.

    >>> round(value("C", 100, 100, 1, 0.2), 4)
    9.9251
    >>> call, put = value("C", 90, 100, 0.5, 0.3), value("P", 90, 100, 0.5, 0.3)
    >>> abs(call - put - (90 - 100 * math.exp(-RATE * 0.5))) < 1e-9
    True
    """
    if years <= 0 or volatility <= 0:
        return max(underlying - strike, 0.0) if right == "C" else max(strike - underlying, 0.0)
    d1, d2 = _terms(underlying, strike, years, volatility)
    discounted = strike * math.exp(-RATE * years)
    if right == "C":
        return underlying * _normal(d1) - discounted * _normal(d2)
    return discounted * _normal(-d2) - underlying * _normal(-d1)


def values(right: Right, underlying: Floats, strike: float, years: Floats, volatility: float) -> Floats:
    """The same for arrays of underlying prices and times."""
    spread = volatility * np.sqrt(np.maximum(years, 1e-12))
    d1 = (np.log(underlying / strike) + RATE * years) / spread + spread / 2
    discounted = strike * np.exp(-RATE * years)
    sign = 1.0 if right == "C" else -1.0
    result: Floats = sign * (underlying * _normal_all(sign * d1) - discounted * _normal_all(sign * (d1 - spread)))
    intrinsic = np.maximum(sign * (underlying - strike), 0.0)
    return np.where(years > 0, result, intrinsic)


def greeks(right: Right, underlying: float, strike: float, years: float, volatility: float) -> Greeks:
    """Price and sensitivities."""
    price = value(right, underlying, strike, years, volatility)
    if years <= 0 or volatility <= 0:
        sign = 1.0 if right == "C" else -1.0
        return Greeks(volatility, sign if price > 0 else 0.0, price, 0.0, 0.0, 0.0, underlying)
    d1, d2 = _terms(underlying, strike, years, volatility)
    density = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    root, discounted = math.sqrt(years), strike * math.exp(-RATE * years)
    decay = -underlying * density * volatility / (2 * root)
    interest = -RATE * discounted * _normal(d2) if right == "C" else RATE * discounted * _normal(-d2)
    return Greeks(
        volatility=volatility,
        delta=_normal(d1) - (0.0 if right == "C" else 1.0),
        price=price,
        gamma=density / (underlying * volatility * root),
        vega=underlying * density * root / 100,
        theta=(decay + interest) / 365,
        underlying=underlying,
    )


def implied_volatility(right: Right, price: float, underlying: float, strike: float, years: float) -> float | None:
    """The volatility that explains a price; None when none up to 1,000 % does.

    >>> round(implied_volatility("P", value("P", 95, 100, 0.4, 0.33), 95, 100, 0.4), 6)
    0.33
    """
    low, high = 1e-4, _HIGHEST_VOLATILITY
    if years <= 0 or not value(right, underlying, strike, years, low) <= price:
        return None
    if price > value(right, underlying, strike, years, high):
        return None
    for _ in range(50):  # halvings: to 1e-14
        middle = (low + high) / 2
        if value(right, underlying, strike, years, middle) < price:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _terms(underlying: float, strike: float, years: float, volatility: float) -> tuple[float, float]:
    spread = volatility * math.sqrt(years)
    d1 = (math.log(underlying / strike) + RATE * years) / spread + spread / 2
    return d1, d1 - spread


def _normal(x: float) -> float:
    return (1.0 + math.erf(x / _ROOT_2)) / 2


def _normal_all(x: Floats) -> Floats:
    result: Floats = (1.0 + _erf(x / _ROOT_2)) / 2
    return result
