"""App configurations of the site and of the admin."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate


class MatsSiteConfig(AppConfig):
    """The site: API keys, supervisor, system checks."""

    name = "mats_site"
    verbose_name = "Access"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, and restore the roles after every migrate."""
        from mats_site import access_trail, checks  # noqa: F401
        from mats_site.roles import ensure_roles

        # After, not in, a migration: permissions exist only once every app has migrated, and later models count too.
        post_migrate.connect(ensure_roles, sender=self, dispatch_uid="mats_site.roles")
        access_trail.connect()


class MatsAdminConfig(AdminConfig):
    """The admin under our own site class."""

    default_site = "mats_site.admin_site.MatsAdminSite"
