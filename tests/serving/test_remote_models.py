"""Models on other machines: registered by what their servers say, answered as the original, and
whatever they do instead costs their own requests alone.
"""

import gzip
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from noregret.env import BadEnvironment, Environment
from noregret.registry.models import ModelVersion
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from serving import process
from serving.breaker import FAILURES
from serving.outbound.addresses import AddressRefused
from serving.outbound.http_client import HttpClient, OutboundFailed
from serving.outbound.reach import Reach
from serving.web.data_plane import data_plane
from tests.conftest import Api, endpoint_of, start_experiment, static_model
from tests.serving.remote_server import Handler, RemoteServer
from tests.serving.test_when_things_break import wait_for

IRIS, SPECIES = load_iris(return_X_y=True)
ESTIMATOR = LogisticRegression(max_iter=1000).fit(IRIS, np.array(["setosa", "versicolor", "virginica"])[SPECIES])
ROWS = IRIS[::5].tolist()
MODELS = "/api/v1/models"
LOOPBACK = Reach(
    hosts=("127.0.0.1",), networks=Environment.read({"NOREGRET_REMOTE_NETWORKS": "127.0.0.0/8"}).remote_networks
)


def answers(rows: Any) -> dict[str, Any]:
    return {"label": ESTIMATOR.predict(rows), "probabilities": ESTIMATOR.predict_proba(rows)}


@contextmanager
def serving(**options: Any) -> Iterator[RemoteServer]:
    server = RemoteServer(options.pop("answer", answers), outputs=("label", "probabilities"), **options)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def remote() -> Iterator[RemoteServer]:
    with serving() as server:
        yield server


def definition(server: RemoteServer, **changes: Any) -> dict[str, Any]:
    base = {
        "name": "m",
        "version": "1",
        "framework": "http",
        "url": server.open_inference,
        "protocol": "open-inference",
    }
    return base | changes


def predicted(api: Api, rows: Any = ROWS, endpoint: str = "pages") -> Any:
    return api.post(f"/api/v1/endpoints/{endpoint}/predict", {"inputs": rows})


# Registered, and served.


def test_open_inference__registered_by_its_metadata__answers_as_the_original(alice: Api, remote: RemoteServer) -> None:
    made = alice.post(MODELS, definition(remote))
    assert made.status == 201, made.content
    signature = made["signature"]
    assert (signature["features"], signature["outputs"]) == (4, ["predict", "probabilities"])
    assert made["options"] == {"url": remote.open_inference, "protocol": "open-inference"}
    assert ModelVersion.objects.get().runtime == "http"
    assert alice.post(MODELS, definition(remote)).status == 200
    assert alice.post(MODELS, definition(remote, protocol="mlflow")).status == 409
    endpoint_of("pages", "m@1")
    answer = predicted(alice)
    assert answer.status == 200, answer.content
    assert answer["outputs"]["predict"] == ESTIMATOR.predict(ROWS).tolist()
    np.testing.assert_allclose(answer["outputs"]["probabilities"], ESTIMATOR.predict_proba(ROWS), atol=1e-12)
    assert predicted(alice, [[1.0]]).fields() == ["inputs[0]"]
    before = remote.connections
    for _ in range(5):
        assert predicted(alice).status == 200
    assert remote.connections == before  # it is kept


def test_columns__as_inputs_of_a_row_each__are_sent_by_name_in_the_models_order(alice: Api) -> None:
    names = ["length", "width", "days"]
    inputs = [
        {"name": name, "datatype": kind, "shape": [-1, 1]}
        for name, kind in zip(names, ("FP64", "FP32", "INT64"), strict=True)
    ]
    with serving(answer=lambda rows: {"y": rows @ [1.0, 10.0, 100.0]}, inputs=inputs) as remote:
        made = alice.post(MODELS, definition(remote, sample=[[0.5, 2.0, 3], [1e9, 0, -1]]))
        assert made.status == 201, made.content
        assert (made["signature"]["feature_names"], made["signature"]["outputs"]) == (names, ["predict"])
        endpoint_of("pages", "m@1")
        answer = predicted(alice, [{"days": 3, "length": 0.5, "width": 2}])
        assert answer["outputs"] == {"predict": [320.5]}
        refused = predicted(alice, [[0.5, 2, 1.5]])
        assert (refused.status, refused.fields()) == (400, ["inputs[0].days"])


TYPED = [
    {"name": "city", "datatype": "BYTES", "shape": [-1, 1]},
    {"name": "age", "datatype": "INT32", "shape": [-1]},
    {"name": "member", "datatype": "BOOL", "shape": [-1, 1]},
]


@pytest.mark.parametrize("protocol", ["open-inference", "mlflow"])
def test_columns__of_texts_integers_and_truths__travel_with_their_types(alice: Api, protocol: str) -> None:
    """The answer tells what came."""
    columns = [{"name": "city", "type": "string"}, {"name": "age", "type": "integer"}]
    columns.append({"name": "member", "type": "boolean"})

    def heard(handler: Handler) -> None:
        body = json.loads(handler.body)
        if protocol == "mlflow":
            assert body["dataframe_split"]["columns"] == ["city", "age", "member"]
            rows = body["dataframe_split"]["data"]
            handler.reply(200, {"predictions": [json.dumps(row) for row in rows]})
        else:
            assert [(one["datatype"], one["shape"][0]) for one in body["inputs"]] == [
                (one["datatype"], len(body["inputs"][0]["data"])) for one in TYPED
            ]
            rows = [list(row) for row in zip(*(one["data"] for one in body["inputs"]), strict=True)]
            handler.reply(200, output([json.dumps(row) for row in rows], [len(rows), 1], "BYTES"))

    with serving(inputs=TYPED) as remote:
        remote.hostile = heard
        url = remote.root if protocol == "mlflow" else remote.open_inference
        sample = [["Sébastopol", 30, True], {"age": 2**31 - 1, "city": "", "member": False}]
        asked = definition(remote, url=url, protocol=protocol, sample=sample, columns=columns)
        assert alice.post(MODELS, asked | {"columns": columns[:2]}).status == 400
        made = alice.post(MODELS, asked)
        assert made.status == 201, made.content
        assert made["signature"]["columns"] == [{**column, "nullable": False} for column in columns]
        endpoint_of("pages", "m@1")
        answer = predicted(alice, sample)
        assert [json.loads(row) for row in answer["outputs"]["predict"]] == [
            ["Sébastopol", 30, True], ["", 2**31 - 1, False],
        ]  # fmt: skip
        assert predicted(alice, [["a", 1, "yes"]]).fields() == ["inputs[0].member"]
        if protocol == "open-inference":
            assert "takes INT32" in json.dumps(predicted(alice, [["a", 2**31, True]]).body)


def test_mlflow__with_and_without_names__answers_as_the_original(alice: Api, remote: RemoteServer) -> None:
    names = ["a", "b", "c", "d"]
    plain = definition(remote, version="plain", url=remote.root, protocol="mlflow", sample=ROWS[:3])
    named = definition(
        remote,
        version="named",
        url=f"{remote.root}/invocations",
        protocol="mlflow",
        columns=[{"name": name} for name in names],
    )
    assert alice.post(MODELS, plain)["signature"]["outputs"] == ["predict", "probabilities"]
    assert alice.post(MODELS, named).status == 201
    for version in ("plain", "named"):
        endpoint_of(version, f"m@{version}")
        answer = predicted(alice, endpoint=version)
        assert answer["outputs"]["predict"] == ESTIMATOR.predict(ROWS).tolist()
        np.testing.assert_allclose(answer["outputs"]["probabilities"], ESTIMATOR.predict_proba(ROWS), atol=1e-12)
    assert predicted(alice, [dict(zip(names, ROWS[0], strict=True))], "named").status == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "http://elsewhere.example/v2/models/m"}, "url"),
        ({"url": "ftp://127.0.0.1/m"}, "url"),
        ({"url": "http://user:secret@127.0.0.1/m"}, "url"),
        ({"url": "http://127.0.0.1:1/v2/models/m"}, "url"),
        ({"url": "http://[::1/"}, "url"),
        ({"url": "http://127.0.0.1/\u00e9"}, "url"),
        ({"protocol": "smtp"}, "protocol"),
        ({"sample": [[1, 2, 3]]}, "sample"),
        ({"sample": [[1, 2, 3, 4], [1]]}, "sample[1]"),
        ({"sample": [[1, 2, "3", 4]]}, "sample"),
        ({"sample": [[1, 2, True, 4]]}, "sample"),
        ({"sample": []}, "sample"),
        ({"columns": [{"name": "a"}]}, "columns"),
        ({"columns": [{"name": "a"}] * 4}, "columns[1].name"),
        ({"payload": 1}, "payload"),
    ],
)
def test_definition__that_is_wrong__names_the_field(
    alice: Api, remote: RemoteServer, change: dict[str, Any], field: str
) -> None:
    answer = alice.post(MODELS, definition(remote) | change)
    assert (answer.status, answer.fields()) == (400, [field]), answer.content
    assert ModelVersion.objects.count() == 0


@pytest.mark.parametrize(
    "inputs",
    [
        [{"name": "x", "datatype": "FP64", "shape": [4]}],
        [{"name": "x", "datatype": "UINT128", "shape": [-1, 4]}],
        [{"name": "x", "datatype": "FP64", "shape": [-1, -1, 3]}],
        [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}, {"name": "y", "datatype": "FP64", "shape": [-1, 1]}],
        [{"name": "x", "datatype": "FP64", "shape": []}],
        [{"name": "x", "datatype": "BYTES", "shape": [-1, 2]}],
        [{"name": "x", "datatype": "FP64", "shape": [-1, 2**70]}],
        [{"name": "x", "datatype": "FP64", "shape": [-1, 2**40, 2**40]}],
        [{"name": "x", "datatype": "FP64", "shape": [-1, -4]}],
        [{"name": "x", "datatype": "FP64", "shape": [-1, 0]}],
        [{"name": "x", "datatype": "FP64", "shape": [-1]}] * 2,
    ],
)
def test_metadata__that_rows_can_not_be_laid_out_for__is_told(alice: Api, inputs: list[Any]) -> None:
    with serving(inputs=inputs) as remote:
        assert alice.post(MODELS, definition(remote)).fields() == ["url"]


# What servers do instead of answering.


def output(data: Any, shape: Any = None, datatype: str = "FP64") -> dict[str, Any]:
    return {"outputs": [{"name": "p", "datatype": datatype, "shape": shape or [len(ROWS)], "data": data}]}


def drip(handler: Handler) -> None:
    """A byte of a header at a time, for as long as anybody listens."""
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(200):
            handler.wfile.write(b"x")
            time.sleep(0.02)


def drip_body(handler: Handler) -> None:
    with suppress(OSError):
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        for _ in range(200):
            handler.wfile.write(b" ")
            time.sleep(0.02)


def flood(handler: Handler) -> None:
    """Without an end, in chunks."""
    with suppress(OSError):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(4000):
            handler.wfile.write(b"10000\r\n" + b"[" * 65536 + b"\r\n")


def close(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


HOSTILE: dict[str, Any] = {
    "nan": lambda handler: handler.reply(200, output([float("nan")] * len(ROWS))),
    "beyond doubles": lambda handler: handler.reply(200, b'{"outputs":[{"name":"p","datatype":"FP64","shape":[1],"data":[1e999]}]}'),
    "too few": lambda handler: handler.reply(200, output([1.0])),
    "of another shape": lambda handler: handler.reply(200, output([1.0] * len(ROWS), [1, len(ROWS)])),
    "of no shape": lambda handler: handler.reply(200, output([1.0] * len(ROWS), [len(ROWS), 10**18, 10**18])),
    "negative shape": lambda handler: handler.reply(200, output([1.0] * len(ROWS), [-1, -len(ROWS)])),
    "ragged": lambda handler: handler.reply(200, output([[1.0], [1.0, 2.0]] * 15, [len(ROWS), 1])),
    "text for numbers": lambda handler: handler.reply(200, output(["x"] * len(ROWS))),
    "no outputs": lambda handler: handler.reply(200, {"outputs": []}),
    "many outputs": lambda handler: handler.reply(200, {"outputs": output([1.0] * len(ROWS))["outputs"] * 65}),
    "no json": lambda handler: handler.reply(200, b"<html>"),
    "deep json": lambda handler: handler.reply(200, b"[" * 100_000),
    "no utf-8": lambda handler: handler.reply(200, b'{"outputs": [{"name": "\xff"}]}'),
    "500": lambda handler: handler.reply(500, {"error": "out of memory"}),
    "404": lambda handler: handler.reply(404, b"not here"),
    "redirects": lambda handler: handler.reply(302, b"", Location="/v2/models/m/infer"),
    "huge": lambda handler: handler.reply(200, b" " * (64 << 20)),
    "said to be huge": lambda handler: handler.reply(200, b"", Content_Length="99999999999"),
    "bomb": lambda handler: handler.reply(200, gzip.compress(b" " * (64 << 20)), Content_Encoding="gzip"),
    "unknown encoding": lambda handler: handler.reply(200, b"x", Content_Encoding="br"),
    "broken gzip": lambda handler: handler.reply(200, b"xxxx", Content_Encoding="gzip"),
    "floods": flood,
    "closes": close,
}  # fmt: skip
LATE = {"drips headers": drip, "drips its body": drip_body, "hangs": lambda handler: time.sleep(3.0)}


@pytest.fixture
def experiment(alice: Api, remote: RemoteServer) -> Iterator[RemoteServer]:
    """An experiment `e` on `pages`: the static champion `safe`, and half of the traffic for the
    remote arm.
    """
    endpoint_of("pages", static_model("m", "safe", "payload"), deadline_ms=400)
    assert alice.post(MODELS, definition(remote)).status == 201
    start_experiment(
        {"name": "e", "endpoint": "pages", "strategy": "ab",
         "arms": [{"name": "safe", "model": "m@safe", "weight": 0.01}, {"name": "far", "model": "m@1", "weight": 0.99}]}
    )  # fmt: skip
    process.process().store.refresh(10.0)
    assert wait_for(lambda: predicted(alice)["model"] == "m@1")
    yield remote
    remote.hostile = None


def far(api: Api) -> Any:
    """An answer for which the remote arm was chosen."""
    while True:
        answer = predicted(api)
        assert answer.status == 200, answer.content
        if answer["arm"] == "far":
            return answer


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breakers that never open: what each call does is looked at."""
    monkeypatch.setattr("serving.breaker.FAILURES", 10**9)


def test_server__that_answers_no_prediction__is_a_failed_arm_and_the_champion_answers(
    alice: Api, experiment: RemoteServer, closed: None
) -> None:
    resident = psutil.Process().memory_info().rss
    for name, hostile in HOSTILE.items():
        experiment.hostile = hostile
        answer = far(alice)
        assert (answer["model"], answer["outputs"]) == ("m@safe", {"predict": ["payload"] * len(ROWS)}), name
        assert answer["fallback_reason"] in ("error", "timeout"), name
        if name not in ("huge", "floods", "bomb"):
            assert answer["fallback_reason"] == "error", name
    assert psutil.Process().memory_info().rss - resident < 100 << 20
    experiment.hostile = None
    assert far(alice)["model"] == "m@1"


@pytest.mark.parametrize("name", sorted(LATE))
def test_server__that_is_late__is_left_at_the_deadline_with_no_thread_behind(
    alice: Api, experiment: RemoteServer, closed: None, name: str
) -> None:
    experiment.hostile = LATE[name]
    for _ in range(3):
        answer = far(alice)
        assert (answer["model"], answer["fallback_reason"]) == ("m@safe", "timeout")
    live = process.process().store.endpoint("pages")
    assert live is not None
    assert wait_for(lambda: live.arms[1].caller.left == 0, 1.0)  # three seconds it would hang
    experiment.hostile = None
    assert far(alice)["model"] == "m@1"


def test_server__that_fails_again_and_again__is_not_asked_for_a_while(alice: Api, experiment: RemoteServer) -> None:
    experiment.hostile = HOSTILE["500"]
    reasons = [far(alice)["fallback_reason"] for _ in range(FAILURES + 3)]
    assert reasons == ["error"] * FAILURES + ["circuit_open"] * 3


def test_connection__closed_by_the_server_while_it_was_idle__is_made_anew_unseen(
    alice: Api, experiment: RemoteServer
) -> None:
    def once(handler: Handler) -> None:
        experiment.hostile = None
        close(handler)

    before = experiment.connections
    experiment.hostile = once
    assert far(alice)["model"] == "m@1"
    assert experiment.connections == before + 1


def test_remote_endpoints__have_threads_of_their_own(alice: Api, experiment: RemoteServer) -> None:
    find = data_plane(threads=2, share=0.0)
    endpoint_of("near", "m@safe")
    process.process().store.refresh(10.0)
    assert wait_for(lambda: process.waits("pages"))

    def pool(path: str) -> str:
        rule = find(path)
        assert rule is not None
        return rule.answers.pool.name  # type: ignore[union-attr]  # no fixed answer

    assert pool("/api/v1/endpoints/pages/predict") == "waiting"
    assert pool("/api/v1/endpoints/near/predict") == "data"
    assert pool("/api/v1/feedback") == "data"


# Where requests may go.


@pytest.mark.parametrize(
    ("entry", "url", "is_reached"),
    [
        ("models.internal", "http://models.internal/", True),
        ("models.internal", "http://MODELS.internal.:8000/", True),
        ("models.internal", "http://x.models.internal/", False),
        ("*.internal", "http://x.models.internal/", True),
        ("*.internal", "http://internal/", False),
        ("*.internal", "http://evilinternal/", False),
        ("h:8000", "http://h:8000/", True),
        ("h:8000", "http://h/", False),
        ("h:80", "http://h/", True),
        ("[::1]:8000", "http://[::1]:8000/", True),
        ("::1", "http://[::1]:9/", True),
        ("10.0.0.1", "http://10.0.0.2/", False),
        ("h", "http://h@evil/", False),
        ("h", "http://evil\\@h/", False),
        ("h", "http://evil#@h/", False),
    ],
)
def test_host__is_reached_where_it_is_listed(entry: str, url: str, is_reached: bool) -> None:
    reach = Reach(hosts=(entry,))
    if is_reached:
        reach.check(url)
    else:
        with pytest.raises(AddressRefused):
            reach.check(url)
    with pytest.raises(AddressRefused):
        Reach().check(url)


NEVER = ["169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fe80::1",
         "::ffff:169.254.169.254", "0.0.0.0", "224.0.0.1", "::"]  # noqa: S104  # fmt: skip
PRIVATE = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1",
           "2130706433", "0x7f.1", "localhost"]  # fmt: skip


@pytest.mark.skipif(
    not shutil.which("unshare") or os.getuid() != 0, reason="needs a network namespace of its own, as root"
)
def test_addresses__private_ones_and_metadata__are_refused__where_nothing_can_leave() -> None:
    program = (
        "import ipaddress, sys; sys.path[:0] = sys.argv[1:2]\n"
        "from serving.outbound.reach import AddressRefused, Reach\n"
        "everywhere = [ipaddress.ip_network('0.0.0.0/0'), ipaddress.ip_network('::/0')]\n"
        f"for names, networks in (({NEVER!r}, everywhere), ({PRIVATE!r}, [])):\n"
        "    for name in names:\n"
        "        try:\n"
        "            print('ALLOWED', Reach([name], networks).addresses(name, 80))\n"
        "        except AddressRefused as refusal:\n"
        "            print('refused', refusal)\n"
        "        except OSError as error:\n"
        "            print('unresolved', name, error)\n"
        "print(Reach(['10.1.2.3'], [ipaddress.ip_network('10.0.0.0/8')]).addresses('10.1.2.3', 80))\n"
    )
    root = Path(__file__).parents[2]
    told = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", program, str(root)],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert told.pop() == "['10.1.2.3']"
    assert len(told) == len(NEVER) + len(PRIVATE)
    assert all(line.startswith(("refused", "unresolved")) for line in told), told


def test_name__that_leads_elsewhere_later__is_checked_for_each_connection(
    remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: what was an address of the list at registration is a metadata server's today."""
    addresses = ["127.0.0.1"]
    real = socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **options: Any) -> Any:
        names = addresses if host == "model.example" else [host]
        return [entry for name in names for entry in real(name, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    reach = Reach(hosts=("model.example",), networks=LOOPBACK.networks)
    port = remote.server_address[1]

    def asked(client: HttpClient) -> int:
        url = f"http://model.example:{port}/ping"
        return client.request("GET", url, seconds=5.0, limit=10_000).status

    kept = HttpClient(reach)
    assert asked(kept) == 200
    for other in (["169.254.169.254"], ["127.0.0.1", "10.0.0.1"]):
        addresses[:] = other
        assert asked(kept) == 200  # its connection was checked, and goes where it went
        with pytest.raises(AddressRefused, match="neither an address of the internet"):
            asked(HttpClient(reach))


def test_token__goes_to_its_host_alone_and_is_kept_nowhere(alice: Api, remote: RemoteServer, settings: Any) -> None:
    environment = Environment.read({"NOREGRET_REMOTE_TOKENS": "127.0.0.1=FAR_TOKEN", "FAR_TOKEN": "s3cret"})
    settings.REMOTE_TOKENS = environment.remote_tokens
    assert alice.post(MODELS, definition(remote)).status == 201
    endpoint_of("pages", "m@1")
    assert predicted(alice).status == 200
    assert {headers["Authorization"] for headers in remote.headers} == {"Bearer s3cret"}
    live = process.process().store.endpoint("pages")
    assert "s3cret" not in repr(live)
    assert "s3cret" not in json.dumps(alice.get(f"{MODELS}/m/1").body)
    assert Reach(tokens={"elsewhere": "s3cret"}).headers(remote.root) == {}
    with pytest.raises(BadEnvironment, match="FAR_TOKEN"):
        Environment.read({"NOREGRET_REMOTE_TOKENS": "127.0.0.1=FAR_TOKEN"})
    with pytest.raises(BadEnvironment, match="a network"):
        Environment.read({"NOREGRET_REMOTE_NETWORKS": "10.0.0.1/8"})


@contextmanager
def speaking(
    said: Callable[[bytes], list[bytes]], context: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[int]]]:
    """A server that sends these pieces, each at once, for a request's body: its port, and a list
    with an entry a connection.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    connections: list[int] = []

    def converse(plain: socket.socket) -> None:
        connection = plain if context is None else context.wrap_socket(plain, server_side=True)
        with suppress(OSError), connection, connection.makefile("rb") as heard:
            while heard.readline():
                length = 0
                while line := heard.readline().strip():
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                for piece in said(heard.read(length)):
                    connection.sendall(piece)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                connections.append(connection.fileno())
                threading.Thread(target=converse, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1], connections
    finally:
        listening.close()


def response(body: bytes, *, chunked: bool = False) -> bytes:
    if chunked:
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


EVIL = response(b"666")
MORE: dict[str, Callable[[bytes], list[bytes]]] = {
    "a whole answer": lambda body: [response(body) + EVIL],
    "a part of one, the rest later": lambda body: [response(body) + EVIL[:20], EVIL[20:]],
    "after chunks": lambda body: [response(body, chunked=True) + EVIL],
    "in a write of its own": lambda body: [response(body), EVIL],
    "an interim answer": lambda body: [response(body) + b"HTTP/1.1 100 Continue\r\n\r\n"],
}


@pytest.mark.parametrize("more", MORE)
def test_client__whose_server_says_more_than_its_answer__gives_nobody_the_rest(more: str) -> None:
    client = HttpClient(LOOPBACK)
    with speaking(MORE[more]) as (port, connections):
        for number in range(4):
            body = b"%d" % number
            answer = client.request("POST", f"http://127.0.0.1:{port}/", seconds=10.0, limit=100, body=body)
            assert answer.body == body
            time.sleep(0.05)  # what is in a write of its own has come
    assert len(connections) == 4
    client.close()
    with speaking(lambda body: [response(body, chunked=True)[:30], response(body, chunked=True)[30:]]) as (
        port,
        connections,
    ):
        for number in range(4):
            client.request("POST", f"http://127.0.0.1:{port}/", seconds=10.0, limit=100, body=b"%d" % number)
    assert len(connections) == 1
    client.close()


def test_client__many_threads_and_a_forked_child__share_no_connection(remote: RemoteServer) -> None:
    client = HttpClient(LOOPBACK, most_connections=4)

    def ask(_: int = 0) -> int:
        return client.request("GET", f"{remote.root}/ping", seconds=10.0, limit=10_000).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(64))) == {200}
    assert remote.connections <= 4
    before = remote.connections
    child = os.fork()
    if child == 0:
        os._exit(0 if ask() == 200 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ask() == 200
    assert remote.connections == before + 1
    client.close()


def test_client__whose_connections_all_wait__is_told_at_its_deadline(remote: RemoteServer) -> None:
    client = HttpClient(LOOPBACK, most_connections=1)
    gate = threading.Event()
    remote.hostile = lambda handler: (gate.wait(10), handler.reply(200, {}))[1]

    def ask(seconds: float) -> int:
        url = f"{remote.open_inference}/infer"
        return client.request("POST", url, seconds=seconds, limit=100, body=b"{}").status

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, 10.0)
        assert wait_for(lambda: len(remote.paths) == 1)
        with pytest.raises(OutboundFailed, match="longer than"):
            ask(0.1)
        gate.set()
        assert first.result() == 200
    client.close()


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl")
def test_tls__certificate_is_held_against_the_name_and_not_the_address(
    remote: RemoteServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost"]  # fmt: skip
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    remote.socket = context.wrap_socket(remote.socket, server_side=True)
    reach = Reach(hosts=("localhost", "127.0.0.1"), networks=LOOPBACK.networks)

    def ask(host: str) -> int:
        url = f"https://{host}:{remote.server_address[1]}/ping"
        client = HttpClient(reach)
        try:
            return client.request("GET", url, seconds=10.0, limit=10_000).status
        finally:
            client.close()

    def resolve(host: str, port: int, *_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(OutboundFailed, match="certificate verify failed"):
        ask("localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert ask("localhost") == 200
    with pytest.raises(OutboundFailed, match="certificate verify failed"):
        ask("127.0.0.1")
    with speaking(MORE["a whole answer"], context) as (port, connections):
        client = HttpClient(reach)
        for number in range(3):
            url = f"https://localhost:{port}/"
            assert client.request("POST", url, seconds=10.0, limit=100, body=b"%d" % number).body == b"%d" % number
        client.close()
    assert len(connections) == 3
