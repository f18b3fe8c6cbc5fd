"""The admin site: MATS' titles, and a way back to the console."""

from django.contrib import admin


class MatsAdminSite(admin.AdminSite):
    """Django's admin under the MATS name."""

    site_title = "MATS"
    site_header = "MATS administration"
    index_title = "Strategies, books and access"
    site_url = "/"
