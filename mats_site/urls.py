"""Routes: console pages, admin, API, health."""

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from mats_site.api import api_urls
from mats_site.passwords import CHANGE_URL_NAME, ChangePasswordView
from trading.login import ThrottledLoginView

handler404 = "trading.views.not_found"

urlpatterns: list[URLPattern | URLResolver] = [
    path("favicon.ico", RedirectView.as_view(url="/static/mats/logo.svg")),  # the admin names no icon of its own
    path("login/", ThrottledLoginView.as_view(), name="login"),
    path("password/", ChangePasswordView.as_view(), name=CHANGE_URL_NAME),
    path("admin/password_change/", RedirectView.as_view(pattern_name=CHANGE_URL_NAME)),
    path("logout/", LogoutView.as_view(), name="logout"),
    # One door: the admin's own login page would be a way around the limit on wrong passwords.
    path("admin/login/", RedirectView.as_view(pattern_name="login", query_string=True)),
    path("admin/", admin.site.urls),
    path("api/", api_urls),
    path("", include("trading.urls")),
]
