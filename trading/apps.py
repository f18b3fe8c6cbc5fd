"""App configuration: how it trades."""

from django.apps import AppConfig


class TradingConfig(AppConfig):
    """Engine, orders, brokers, paper gateway, live pages."""

    name = "trading"
    default_auto_field = "django.db.models.BigAutoField"
