"""From an endpoint to its wheel."""

import re
from datetime import UTC, datetime, timedelta

from django.conf import settings

from noregret.experiments.models import Endpoint
from noregret.registry.artifact_storage import artifact_store
from noregret.rollout.publish import build as build_snapshot
from serving import snapshot
from serving.artifacts import ArtifactStore
from serving.edge.receipt import Receipts, TooLarge, choice_of, receipt_of

from .carried import sources
from .contents import CannotTravel, Terms, compose
from .wheel import Wheel

DAYS = 90
NUMPY, ONNXRUNTIME = "numpy>=2.1", "onnxruntime>=1.20"
_APART = re.compile(r"[-._]+")
_INIT = '''"""{summary}"""

from pathlib import Path as _Path

from {package}.serving.packaged.journal import LogUnavailable
from {package}.serving.packaged.rewards import FeedbackRefused
from {package}.serving.packaged.router import ModelFailed
from {package}.serving.packaged.router import Router as _Router
from {package}.serving.packaged.uploading import Uploaded, UploadFailed

__all__ = ["FeedbackRefused", "LogUnavailable", "ModelFailed", "Router", "UploadFailed", "Uploaded"]
__version__ = "{version}"


class Router(_Router):
    __doc__ = _Router.__doc__
    contents = _Path(__file__).with_name("contents")
'''


def package_name(endpoint: str) -> str:
    """What the module of an endpoint's package is called."""
    return f"noregret_{_APART.sub('_', endpoint).strip('_')}"


def export(endpoint: str, until: datetime | None = None) -> Wheel:
    """The package of an endpoint as it is now. What it decides until then can be uploaded; by
    default to the end of the day, in UTC, in 90 days.

    Raises Endpoint.DoesNotExist, CannotTravel and ArtifactMissing.
    """
    document = build_snapshot(Endpoint.objects.get(name=endpoint).pk)
    now = datetime.now(UTC)
    return wheel_of(document, artifact_store(), terms_of(document, until or last_day(now), now))


def last_day(now: datetime) -> datetime:
    """The end of the day in 90 days."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=DAYS + 1)


def terms_of(document: snapshot.Endpoint, until: datetime, now: datetime) -> Terms:
    """A receipt from the begin of this day, in UTC, to `until`: of one snapshot the same all day.
    None for an endpoint that keeps no decisions. Raises CannotTravel."""
    begins = now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    receipt = receipt_of(document, choice_of(document), begins, until.timestamp())
    if not (receipt.experiment_id and receipt.record > 0.0):
        return Terms(None, until.timestamp())
    try:
        return Terms(Receipts(settings.SECRET_KEY).sign(receipt), until.timestamp())
    except TooLarge as error:
        raise CannotTravel(
            [f"what the policy of {document.name} believes is too much for a package: {error} of its receipt"]
        ) from error


def wheel_of(document: snapshot.Endpoint, artifacts: ArtifactStore, terms: Terms) -> Wheel:
    """The package of a snapshot. Raises CannotTravel and ArtifactMissing."""
    contents = compose(document, artifacts, terms)
    package, version = package_name(document.name), f"1.{document.version}"
    summary = f"The endpoint {document.name} of a Noregret platform, as of its snapshot {document.version}."
    files = {f"contents/{path}": body for path, body in contents.files.items()}
    files |= sources(package)
    files["__init__.py"] = _INIT.format(summary=summary, package=package, version=version).encode()
    files["py.typed"] = b""
    requires = [NUMPY, ONNXRUNTIME] if contents.needs_onnxruntime else [NUMPY]
    return Wheel(package, version, summary, requires, files)
