"""What an exported package holds besides what it shares with the service: the snapshot as it was
frozen, a log of its own, and the router that people call.

Every file here is carried into the wheel, so all of it needs numpy and the standard library alone.
"""
