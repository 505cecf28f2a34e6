"""A model on another machine, asked over the network: its process, its GPU and its memory are not
ours.

It is asked within what is left of the request's deadline, over connections of its own that are
kept. Whatever it answers that is no prediction for these rows is a failure of the arm.
"""

from typing import Any, ClassVar, Literal, Protocol
from urllib.parse import urlsplit

from serving.deadline import seconds_left
from serving.outbound.addresses import AddressRefused
from serving.outbound.reach import Reach
from serving.remote.described import Described
from serving.remote.tensors import Tensor

from .columns import Rows
from .protocol import Model, Resources
from .runtime import ModelError, Outputs

RemoteProtocol = Literal["open-inference", "mlflow"]
LONGEST_SECONDS = 60.0
"""Of a call that nobody set a deadline for; an endpoint's is at most as long."""


HTTP = ("http", "https")
GRPC = ("grpc", "grpcs")


def schemes_of(protocol: RemoteProtocol) -> tuple[str, ...]:
    """What an address may begin with."""
    return HTTP + GRPC if protocol == "open-inference" else HTTP


class RemoteModel(Protocol):
    """A model by one of the protocols."""

    def describe(self, seconds: float) -> Described:
        """What its server says of it. Raises ModelError, DeadlineExceeded."""

    def predict(self, rows: Rows, seconds: float) -> Outputs:
        """As a Runtime's, within so many seconds. Raises ModelError, DeadlineExceeded."""


def remote_model(model: "HttpModel", reach: Reach, limit: int) -> RemoteModel:
    """The model with connections of its own. `limit`: the most bytes of an answer. Raises
    ModelError for an address that must not be called.
    """
    try:
        reach.check(model.url, schemes_of(model.protocol))
    except AddressRefused as error:
        raise ModelError(f"{model.url} may not be called: {error}") from error
    # Not before such a model is used: most processes never make a connection.
    if urlsplit(model.url).scheme in GRPC:
        from serving.remote.open_inference_grpc import GrpcModel

        return GrpcModel(reach, model.url, reach.headers(model.url), model.inputs, limit)
    from serving.outbound.http_client import HttpClient
    from serving.remote.mlflow_scoring import MlflowModel
    from serving.remote.open_inference import OpenInferenceModel

    client, headers = HttpClient(reach), reach.headers(model.url)
    if model.protocol == "mlflow":
        return MlflowModel(client, model.url, headers, names_of(model), limit)
    return OpenInferenceModel(client, model.url, headers, model.inputs, limit)


def names_of(model: Model) -> list[str] | None:
    """The names of a row's values, where it has any."""
    return model.feature_names if model.columns is None else [column.name for column in model.columns]


class HttpRuntime:
    """Never `bounded`: whoever waits for another machine must be able to leave."""

    bounded = False

    def __init__(self, remote: RemoteModel) -> None:
        self._remote = remote

    def predict(self, rows: Rows) -> Outputs:
        return self._remote.predict(rows, seconds_left(LONGEST_SECONDS))


class HttpModel(Model, frozen=True, kw_only=True, tag="http"):
    label: ClassVar[str] = "remote model"
    stays: ClassVar[str | None] = "it answers on another machine"
    waits: ClassVar[bool] = True

    url: str
    protocol: RemoteProtocol
    inputs: list[Tensor] = []  # as its server described them

    def load(self, resources: Resources) -> HttpRuntime:
        settings: Any = resources.settings
        return HttpRuntime(remote_model(self, Reach.of(settings), settings.REMOTE_ANSWER_LIMIT))
