"""What can keep the platform from starting on this machine."""


class StartFailed(Exception):
    """The message says what failed, why as far as it is known, and what to do."""
