"""Commands to the engine: which there are."""

from trading.engine.specs import SPECS, CommandSpec, check_args

__all__ = ["SPECS", "CommandSpec", "check_args"]
