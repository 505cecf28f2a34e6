"""What `manage.py doctor` finds, as its checks tell it."""

Finding = tuple[bool | None, str]
"""Is it well, and in what words? None: it is not, and the platform runs all the same."""
