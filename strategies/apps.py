"""App configuration: what a strategy is."""

from django.apps import AppConfig


class StrategiesConfig(AppConfig):
    """Strategy metadata, loader and the strategy contract."""

    name = "strategies"
    default_auto_field = "django.db.models.BigAutoField"
