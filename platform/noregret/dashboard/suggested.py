"""What a form suggests for a text: names that there are."""

from collections.abc import Iterator

from noregret.experiments.models import Endpoint
from noregret.registry.models import ModelVersion

SUGGESTED = 1000
"""So many of the newest are suggested; any other can be typed."""


def models_suggested() -> Iterator[str]:
    return (version.model for version in ModelVersion.objects.order_by("-pk")[:SUGGESTED])


def endpoints_suggested() -> Iterator[str]:
    return (endpoint.name for endpoint in Endpoint.objects.order_by("-pk")[:SUGGESTED])
