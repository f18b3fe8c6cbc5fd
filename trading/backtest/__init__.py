"""Backtests: strategy files over bars of the past, with the gateway's fill model."""
