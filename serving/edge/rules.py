"""What a deployment sets for devices. It imports nothing, for settings are read before all else."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EdgeRules:
    """As the deployment sets them. `seeds` are of the keys that sign bundles, none for a derived
    one."""

    seeds: tuple[bytes, ...]
    bundle_seconds: float
    grace_seconds: float
    events_per_minute: int
