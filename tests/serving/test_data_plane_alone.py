"""The data plane as a process of its own, behind the same nginx as the control plane: what each is
asked, and what the data plane's own probes tell."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from getpass import getuser
from pathlib import Path
from socket import create_server
from typing import Any

import httpx
import pytest
from django.db import connection
from django.urls import URLPattern, URLResolver, get_resolver
from noregret import variables
from noregret.access.keys import create_key
from noregret.embedded import services
from noregret.experiments.models import Experiment
from noregret.learning.health import sign_of_life
from noregret.registry.models import ModelVersion

from serving import probes
from serving.process import process
from serving.web.routes import PROTOCOLS, ROUTES
from tests.client_environments import ROOT
from tests.conftest import ACTOR, endpoint_of, python_model, static_model
from tests.serving.test_when_things_break import wait_for

Start = Callable[..., Experiment]
NGINX = ROOT / "deploy" / "nginx"


def asked(path: str, query: str = "", host: str = "10.1.2.3:8000") -> tuple[int, Any]:
    """Status and body of a probe."""
    told: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query, "HTTP_HOST": host}
    body = b"".join(probes.application(environ, lambda status, headers: told.append(status)))
    return int(told[0][:3]), json.loads(body) if body.startswith(b"{") else body.decode()


def test_readyz__of_the_data_plane_alone__tells_what_it_can_see(two_arms: Start) -> None:
    two_arms()
    sign_of_life()
    process().store.refresh()
    status, document = asked("/readyz", "strict=1")
    assert (status, document["status"]) == (200, "ready"), document
    assert set(document["checks"]) == {"database", "learner", "snapshots", "champions", "challengers"}
    assert asked("/healthz") == (200, {"status": "ok"})


def test_readyz__champion_that_does_not_load__takes_it_out(platform: None) -> None:
    python_model("page", "a", "sums")
    ModelVersion.objects.filter(name="page").update(callable="tests.callables.gone")
    endpoint_of("pages", "page@a")
    status, document = asked("/readyz")
    assert (status, document["status"]) == (503, "not ready")
    assert "page@a" in document["checks"]["champions"]["not_loaded"]["pages"]


def test_metrics__of_the_data_plane_alone__are_prometheus(two_arms: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    two_arms()
    status, text = asked("/metrics")
    assert status == 200
    assert "noregret_learner_silent_seconds" in text
    monkeypatch.setattr("sys.argv", ["web", "--workers", "2"])
    status, problem = asked("/metrics")
    assert status == 503
    assert "PROMETHEUS_MULTIPROC_DIR" in problem["detail"]


@pytest.fixture
def proxy(platform: None, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of nginx before both planes, each a process of its own on this test's servers."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not here")
    monkeypatch.setenv(variables.REDIS_PREFIX, settings.REDIS_PREFIX)
    named = connection.settings_dict
    monkeypatch.setenv(variables.DATABASE_URL, f"postgresql://{named['USER']}@/{named['NAME']}?host={named['HOST']}")
    data_port, control_port, port = _free_ports(3)
    control = replace(services.web("127.0.0.1", control_port, 1), log=tmp_path / "control.log")
    data = services.web("127.0.0.1", data_port, 1)
    command = ["serving.web" if part == "noregret.web" else part for part in data.command]
    data = replace(data, name="data", command=command, log=tmp_path / "data.log")
    nginx = _nginx(tmp_path, port, data_port, control_port)
    try:
        control.start()
        data.start()
        for plane in (control_port, data_port):
            assert wait_for(lambda plane=plane: _lives(plane), 90.0), control.last_lines() + data.last_lines()
        yield f"http://127.0.0.1:{port}"
    finally:
        nginx.terminate()
        data.stop()
        control.stop()
        nginx.wait(20)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        return [stack.enter_context(create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def _nginx(folder: Path, port: int, data_port: int, control_port: int) -> "subprocess.Popen[bytes]":
    """nginx with the configuration as it is shipped, but for its ports."""
    server = (NGINX / "noregret.conf").read_text().replace("listen 8000;", f"listen 127.0.0.1:{port};")
    upstream = (NGINX / "upstream.vm.conf").read_text()
    upstream = upstream.replace(":8001", f":{data_port}").replace(":8002", f":{control_port}")
    places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{place}_temp_path {folder}/{place};" for place in places)
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off; pid {folder}/pid; user {getuser()}; events {{}} http {{ access_log off; {temporary} {server} {upstream} }}"
    )
    command = ["nginx", "-p", str(folder), "-c", str(main), "-e", str(folder / "errors")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _lives(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_planes_apart__behind_nginx__answer_as_one(proxy: str) -> None:
    endpoint_of("pages", static_model("page", "a"))
    text = create_key(name="sender", scopes=["predict", "feedback", "manage"], actor=ACTOR)[1]
    with httpx.Client(base_url=proxy, headers={"Authorization": f"Bearer {text}"}) as client:
        decide = "/api/v1/endpoints/pages/decide"
        assert wait_for(lambda: client.post(decide, json={}).status_code == 200, 30.0)
        decision = client.post(decide, json={"unit": "u"}).json()
        assert client.post("/api/v1/feedback", json={"decision_id": decision["decision_id"], "value": 1}).is_success
        assert client.get("/v2/models/pages/ready").json()["ready"] is True
        assert client.get("/api/v1/endpoints/pages").json()["champion"] == "page@a"
        assert client.get("/admin/login/").status_code == 200
        # A probe through nginx is the data plane's.
        assert "migrations" not in client.get("/readyz").json()["checks"]


def plane_of(path: str) -> str:
    """The plane that nginx's configuration sends a path to."""
    text = (NGINX / "noregret.conf").read_text()
    (table,) = re.findall(r"map \$uri \$noregret_plane \{(.*?)\n\}", text, re.DOTALL)
    for expression, upstream in re.findall(r"~(\S+)\s+noregret_(\w+);", table):
        if re.search(expression, path):
            return str(upstream)
    return "control"


def controlled(patterns: list[URLPattern | URLResolver], before: str = "/") -> Iterator[str]:
    for pattern in patterns:
        text = before + re.sub(r"<\w+:\w+>", "some", str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from controlled(pattern.url_patterns, text)
        else:
            yield text


def test_proxy__each_address__goes_to_the_plane_that_answers_it() -> None:
    for route in ROUTES:
        assert plane_of(re.sub(r"\{\w+\}", "some", route.template)) == "data", route.template
    for area in (protocol.AREA for protocol in PROTOCOLS if protocol.AREA is not None):
        assert plane_of(f"{area.prefix}/nothing") == "data"
    for path in controlled(get_resolver().url_patterns):
        assert plane_of(path) == ("data" if path in probes.PATHS else "control"), path
    for path in ("/", "/static/a.css", "/api/v1/endpoints/v2", "/api/v1/endpoints/predict", "/admin/v2/"):
        assert plane_of(path) == "control", path
