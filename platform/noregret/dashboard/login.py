"""The login page's form, and what its refusals and successes say by status and cookie."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.forms import AuthenticationForm

from noregret.access.logins import (
    DEVICE_COOKIE,
    DEVICE_SECONDS,
    LoginPaused,
    a_try,
    device_cookie,
)

_PAUSED = "noregret_login_paused"
_DEVICE = "noregret_login_device"


class LoginForm(AuthenticationForm):  # type: ignore[misc]  # unfold ships no types
    """Checks the password within what is admitted; a wrong user, a wrong password and a user
    without the admin are told alike."""

    def clean(self) -> dict[str, Any]:
        username = self.cleaned_data.get("username")
        if username is None or not self.cleaned_data.get("password"):
            cleaned: dict[str, Any] = super().clean()
            return cleaned
        try:
            with a_try(username, self.request) as attempt:
                try:
                    cleaned = super().clean()
                except forms.ValidationError as refused:
                    wrong: forms.ValidationError | None = refused
                else:
                    wrong, attempt.right = None, True
        except LoginPaused as paused:
            setattr(self.request, _PAUSED, paused)
            raise forms.ValidationError(_said(paused), code="paused") from paused
        if wrong is not None:
            raise wrong
        setattr(self.request, _DEVICE, device_cookie(username))
        return cleaned


def _said(paused: LoginPaused) -> str:
    if paused.busy:
        return f"Too many are logging in at this moment. Try again in {_time(paused.seconds)}."
    return f"There were too many failed logins. Try again in {_time(paused.seconds)}."


def _time(seconds: int) -> str:
    if seconds < 60:
        return "1\N{NO-BREAK SPACE}second" if seconds == 1 else f"{seconds}\N{NO-BREAK SPACE}seconds"
    minutes = -(-seconds // 60)
    return "1\N{NO-BREAK SPACE}minute" if minutes == 1 else f"{minutes}\N{NO-BREAK SPACE}minutes"


def form_refused(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form came without the token that our pages give: whose session and cookies are gone logs
    in, and comes back to the form; who is logged in (anew, in another tab) opens it again."""
    if not admin.site.has_permission(request):
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    context = admin.site.each_context(request) | {"title": "This form can't be taken"}
    return TemplateResponse(request, "noregret/form_refused.html", context, status=403).render()


def tell_logins(respond: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """429 or 503 with Retry-After for a login that has to wait, and the cookie for a browser that
    has logged in."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = respond(request)
        paused: LoginPaused | None = getattr(request, _PAUSED, None)
        if paused is not None:
            response.status_code = 503 if paused.busy else 429
            response["Retry-After"] = str(paused.seconds)
        device: str | None = getattr(request, _DEVICE, None)
        if device is not None:
            response.set_cookie(
                DEVICE_COOKIE,
                device,
                max_age=DEVICE_SECONDS,
                path="/admin/login/",
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=True,
                samesite="Strict",
            )
        return response

    return middleware
