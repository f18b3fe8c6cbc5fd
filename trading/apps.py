"""App configuration: how it trades."""

from django.apps import AppConfig


class TradingConfig(AppConfig):
    """Engine, orders, brokers, paper gateway, live pages."""

    name = "trading"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Listen to what happens to strategy rows."""
        from trading import receivers

        receivers.connect()
