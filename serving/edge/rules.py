"""What a deployment sets for devices. It imports nothing, for settings are read before all else."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EdgeRules:
    """As the deployment sets them. `seeds` are of the keys that sign bundles, None of the one
    that is derived; where there are none that one signs."""

    seeds: tuple[bytes | None, ...]
    bundle_seconds: float
    grace_seconds: float
    events_per_minute: int
