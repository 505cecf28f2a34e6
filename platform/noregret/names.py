"""What names of Noregret's things look like: one pattern for models, endpoints, experiments, arms and keys."""

from django.core.validators import RegexValidator

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
NAME_MAX_LENGTH = 63

validate_name = RegexValidator(
    rf"\A{NAME_PATTERN}\Z",
    "must start with a lower-case letter or digit and hold at most 63 of a-z, 0-9, '.', '_' and '-'",
)
