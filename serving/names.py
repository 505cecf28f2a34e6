"""What names look like: one pattern for models, endpoints, experiments, arms, metrics and keys."""

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
NAME_MAX_LENGTH = 63
