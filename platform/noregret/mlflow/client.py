"""MLflow's REST API, as far as it is needed: a version by its alias or number, its files, its run,
and its alias moved. MLflow itself is no dependency.

It is called as remote models are: within one deadline a call, to the host that the settings name,
whose token is sent to nobody else, and with a most of bytes.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from django.conf import settings

from serving.outbound.addresses import AddressRefused
from serving.outbound.http_client import Answer, HttpClient, OutboundFailed
from serving.outbound.reach import Reach

from .errors import ImportRefused, MlflowNotSet, MlflowUnavailable

SECONDS = 5.0
FILE_SECONDS = 60.0
_JSON_BYTES = 4 << 20
_API = "api/2.0/mlflow"
_PROXIED = "mlflow-artifacts"
_OF_RUN = "runs:/"


@dataclass(frozen=True, slots=True)
class Version:
    """A version in MLflow's registry."""

    name: str
    version: str
    run_id: str


class _Document(msgspec.Struct):
    name: str
    version: str
    run_id: str | None = None


class _VersionAnswer(msgspec.Struct):
    model_version: _Document


class _UriAnswer(msgspec.Struct):
    artifact_uri: str


class _Metric(msgspec.Struct):
    key: str
    value: float | str | None = None


class _Data(msgspec.Struct):
    metrics: list[_Metric] = []


class _Info(msgspec.Struct):
    artifact_uri: str = ""


class _Run(msgspec.Struct):
    info: _Info = msgspec.field(default_factory=_Info)
    data: _Data = msgspec.field(default_factory=_Data)


class _RunAnswer(msgspec.Struct):
    run: _Run


class Mlflow:
    """A client of the MLflow that the settings name. Raises MlflowNotSet."""

    def __init__(self) -> None:
        root = settings.MLFLOW_URL
        if not root:
            raise MlflowNotSet("no MLflow is named: set NOREGRET_MLFLOW_URL to its address")
        self._root = root.rstrip("/")
        # The operator names this host, and so means it to be called.
        host = urlsplit(root).hostname or ""
        reach = Reach((*settings.REMOTE_HOSTS, host), settings.REMOTE_NETWORKS, settings.REMOTE_TOKENS)
        self._client = HttpClient(reach)
        self._headers = {"Content-Type": "application/json", **reach.headers(root)}

    def close(self) -> None:
        self._client.close()

    def by_alias(self, name: str, alias: str) -> Version:
        answer = self._get("registered-models/alias", name=name, alias=alias)
        return self._version(answer, f"MLflow has no {name}@{alias}")

    def by_number(self, name: str, version: str) -> Version:
        answer = self._get("model-versions/get", name=name, version=version)
        return self._version(answer, f"MLflow has no version {version} of {name}")

    def move_alias(self, name: str, alias: str, version: str) -> None:
        """Harmless when it is done again. Raises ImportRefused for a version that is gone."""
        body = msgspec.json.encode({"name": name, "alias": alias, "version": version})
        answer = self._ask("POST", f"{_API}/registered-models/alias", body=body)
        if answer.status in (400, 404):
            raise ImportRefused(f"MLflow takes no alias {alias} for {name} {version}: {_said(answer)}")
        self._require(answer)

    def metrics(self, run_id: str) -> dict[str, float]:
        """The last value of each metric of a run that is finite."""
        try:
            run = self._run(run_id)
        except ImportRefused:  # it was deleted, and its version was not
            return {}
        return {
            metric.key[:250]: metric.value
            for metric in run.data.metrics
            if isinstance(metric.value, float) and math.isfinite(metric.value)
        }

    def _run(self, run_id: str) -> _Run:
        answer = self._get("runs/get", run_id=run_id)
        if answer.status in (400, 404):
            raise ImportRefused(f"MLflow has no run {run_id[:64]}: {_said(answer)}")
        run: _Run = self._decoded(answer, _RunAnswer).run
        return run

    def folder(self, version: Version) -> str:
        """Where the proxy has a version's files. Raises ImportRefused where it has not."""
        answer = self._get("model-versions/get-download-uri", name=version.name, version=version.version)
        uri: str = self._decoded(answer, _UriAnswer).artifact_uri
        below = ""
        if uri.startswith(_OF_RUN):
            run, _, below = uri.removeprefix(_OF_RUN).strip("/").partition("/")
            uri = self._run(run).info.artifact_uri
        try:
            parts = urlsplit(uri)
        except ValueError as error:
            raise ImportRefused(f"MLflow names no address of its files: {uri[:100]!r}") from error
        if parts.scheme != _PROXIED:
            raise ImportRefused(
                f"the files of {version.name} {version.version} are at {parts.scheme or 'a path'}:, past MLflow's "
                "server: start it with --artifacts-destination and --serve-artifacts, and log the model anew"
            )
        return f"{parts.path.strip('/')}/{below}".strip("/")

    def file(self, folder: str, path: str, limit: int) -> bytes | None:
        """A file's bytes, at most `limit`; None where there is none of this name. Raises
        ImportRefused for a path that leads out of the folder.
        """
        steps = path.split("/")
        if not path or any(step in ("", ".", "..") for step in steps) or "\\" in path:
            raise ImportRefused(f"the model names a file {path[:100]!r}, which is no path within its folder")
        address = f"api/2.0/mlflow-artifacts/artifacts/{quote(folder)}/{quote(path)}"
        answer = self._ask("GET", address, limit=limit, seconds=FILE_SECONDS)
        if answer.status == 404:
            return None
        self._require(answer)
        return answer.body

    def _version(self, answer: Answer, missing: str) -> Version:
        if answer.status in (400, 404):
            raise ImportRefused(f"{missing}: {_said(answer)}")
        document = self._decoded(answer, _VersionAnswer).model_version
        return Version(document.name, document.version, document.run_id or "")

    def _get(self, path: str, **parameters: str) -> Answer:
        return self._ask("GET", f"{_API}/{path}?{urlencode(parameters)}")

    def _ask(
        self, method: str, path: str, *, body: bytes | None = None, limit: int = _JSON_BYTES, seconds: float = SECONDS
    ) -> Answer:
        began = time.monotonic()
        try:
            return self._client.request(
                method, f"{self._root}/{path}", seconds=seconds, limit=limit, headers=self._headers, body=body
            )
        except (OutboundFailed, AddressRefused) as error:
            after = time.monotonic() - began
            raise MlflowUnavailable(f"MLflow did not answer ({after:.1f} s): {str(error)[:300]}") from error

    def _decoded(self, answer: Answer, kind: Any) -> Any:
        self._require(answer)
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MlflowUnavailable(f"MLflow's answer can't be read: {str(error)[:200]}") from error

    @staticmethod
    def _require(answer: Answer) -> None:
        if answer.status != 200:
            raise MlflowUnavailable(f"MLflow answered {answer.status}: {_said(answer)}")


def _said(answer: Answer) -> str:
    try:
        document = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = None
    message = document.get("message") if isinstance(document, Mapping) else None
    return " ".join(str(message or answer.body[:200].decode("utf-8", "replace")).split())[:300]
