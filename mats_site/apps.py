"""App configurations of the site and of the admin."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class MatsSiteConfig(AppConfig):
    """The site: API keys, supervisor, system checks."""

    name = "mats_site"
    verbose_name = "Access"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from mats_site import checks  # noqa: F401


class MatsAdminConfig(AdminConfig):
    """The admin under our own site class."""

    default_site = "mats_site.admin_site.MatsAdminSite"
