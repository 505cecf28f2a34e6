"""Names as the control plane takes them: in documents, and in columns of the database."""

from typing import Annotated

from django.core.validators import RegexValidator
from msgspec import Meta

from serving.names import NAME_MAX_LENGTH, NAME_PATTERN

__all__ = ["NAME_MAX_LENGTH", "ModelRef", "Name", "validate_name"]

Name = Annotated[str, Meta(pattern=rf"^{NAME_PATTERN}\Z", description="Lower-case letters, digits, '.', '_' and '-'.")]
ModelRef = Annotated[str, Meta(pattern=rf"^{NAME_PATTERN}@{NAME_PATTERN}\Z", description="`name@version`.")]

validate_name = RegexValidator(
    rf"\A{NAME_PATTERN}\Z",
    "must start with a lower-case letter or digit and hold at most 63 of a-z, 0-9, '.', '_' and '-'",
)
