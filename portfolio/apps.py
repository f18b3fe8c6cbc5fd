"""App configuration: whose money it is."""

from django.apps import AppConfig


class PortfolioConfig(AppConfig):
    """Instruments, executions, movements, positions, cash, and the ArcticDB projection."""

    name = "portfolio"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Forbid the deletion of strategies that own something."""
        from portfolio.guards import books_obstacle
        from strategies.services import delete_guards

        if books_obstacle not in delete_guards:
            delete_guards.append(books_obstacle)
