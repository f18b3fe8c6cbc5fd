"""App configuration: whose money it is."""

from django.apps import AppConfig


class PortfolioConfig(AppConfig):
    """Instruments, executions, movements, positions, cash, and the ArcticDB projection."""

    name = "portfolio"
    default_auto_field = "django.db.models.BigAutoField"
