"""Tells drf-spectacular what a view's method declares, through the places that it has for that."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from serving.api.calls import Call, call_of

from . import components


class ViewSchema(AutoSchema):
    """REST framework's DEFAULT_SCHEMA_CLASS."""

    @property
    def _call(self) -> Call:
        call = call_of(getattr(self.view, self.method.lower()))
        if call is None:
            raise TypeError(f"{type(self.view).__name__}.{self.method.lower()} declares no call (noregret.rest.calls)")
        return call

    def get_operation_id(self) -> str:
        return self._call.name or super().get_operation_id()

    def get_summary(self) -> str:
        return self._call.summary

    def get_tags(self) -> list[str]:
        return ["managing"]

    def get_override_parameters(self) -> list[Any]:
        return [
            OpenApiParameter(parameter.name, parameter.kind, description=parameter.description)
            for parameter in self._call.parameters
        ]

    def get_request_serializer(self) -> Any:
        return components.bodies(self._call) or None

    def get_response_serializers(self) -> Any:
        return {
            key: OpenApiResponse(schema, description=components.described(key[0]))
            for key, schema in components.answers(self._call).items()
        }


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # its metaclass is untyped
    """An API key, sent in either of two headers."""

    target_class = "noregret.access.authentication.ApiKeyAuthentication"
    name = ["bearer", "header"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        return [{"bearer": []}, {"header": []}]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        return [
            {"type": "http", "scheme": "bearer", "description": "An API key."},
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        ]
