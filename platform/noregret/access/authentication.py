"""API keys on the control plane: read from the database, so that a revoked key ends at once."""

from typing import TYPE_CHECKING, Any

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from noregret.rest.caller import Caller
from serving.api.keys import digest, presented
from serving.key_uses import USES

from .models import ApiKey

if TYPE_CHECKING:  # REST framework imports this module from its views
    from rest_framework.views import APIView


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer KEY` or `X-API-Key: KEY`."""

    def authenticate(self, request: Request) -> tuple[Caller, ApiKey] | None:
        text = presented(request.META)
        if not text:
            return None
        key = ApiKey.objects.filter(digest=digest(text), revoked_at__isnull=True).first()
        if key is None or (key.expires_at is not None and key.expires_at <= timezone.now()):
            raise AuthenticationFailed
        USES.note(key.digest)
        endpoints = None if key.endpoints is None else frozenset(key.endpoints)
        return Caller(f"key:{key.name}", frozenset(key.scopes), endpoints), key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class HasManageScope(BasePermission):
    """The scope `manage`."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        caller: Any = request.user
        if not isinstance(caller, Caller):
            raise NotAuthenticated
        return "manage" in caller.scopes
