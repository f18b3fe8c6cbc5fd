"""The engine's rig, for what happens to a running engine from outside."""

from tests.e2e.engine.conftest import gateway, mats_settings, rig

__all__ = ["gateway", "mats_settings", "rig"]
