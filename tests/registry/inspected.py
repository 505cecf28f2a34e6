"""What the inspection of a scikit-learn artefact finds, without a registration around it."""

from noregret.registry.frameworks import Examined
from noregret.registry.inspection import inspect as inspect_by

SKLEARN = "noregret.registry.frameworks.sklearn:SklearnFramework"


def inspect(artifact: bytes, sample: list[list[float]] | None = None) -> Examined:
    """In the confined child process. Raises ArtifactRefused."""
    return inspect_by(artifact, SKLEARN, {"trusted": [], "sample": sample})
