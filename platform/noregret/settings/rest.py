"""The control plane's REST framework and its OpenAPI document."""

from noregret import __version__

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["noregret.access.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["noregret.access.authentication.HasManageScope"],
    "DEFAULT_PARSER_CLASSES": ["noregret.rest.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["noregret.rest.renderers.DocumentRenderer"],
    "DEFAULT_SCHEMA_CLASS": "noregret.openapi.view_schema.ViewSchema",
    "EXCEPTION_HANDLER": "noregret.rest.problems.handle_exception",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Noregret",
    "DESCRIPTION": "Multi-armed-bandit experimentation for deployed models.",
    "VERSION": __version__,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    # Its warnings are about what it would otherwise guess; openapi says it all, and tests check the
    # document.
    "DISABLE_ERRORS_AND_WARNINGS": True,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "POSTPROCESSING_HOOKS": ["noregret.openapi.document.complete"],
}
