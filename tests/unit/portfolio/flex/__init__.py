"""Tests of portfolio.flex."""
