"""What names of Noregret's things look like: one pattern for models, endpoints, experiments, arms and keys."""

from typing import Annotated

from django.core.validators import RegexValidator
from msgspec import Meta

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
NAME_MAX_LENGTH = 63

Name = Annotated[str, Meta(pattern=rf"^{NAME_PATTERN}\Z", description="Lower-case letters, digits, '.', '_' and '-'.")]
ModelRef = Annotated[str, Meta(pattern=rf"^{NAME_PATTERN}@{NAME_PATTERN}\Z", description="`name@version`.")]

validate_name = RegexValidator(
    rf"\A{NAME_PATTERN}\Z",
    "must start with a lower-case letter or digit and hold at most 63 of a-z, 0-9, '.', '_' and '-'",
)
