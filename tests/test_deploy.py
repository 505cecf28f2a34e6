"""The container files and the units: no engine builds the image here, so its shape is checked."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.urls import reverse
from noregret.rest.parsers import ArtifactParser

from serving.web.route import BODY_SECONDS
from tests.client_environments import python_of, told_by

ROOT = Path(__file__).resolve().parents[1]
UNITS = ROOT / "deploy" / "vm"


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def test_compose__services__are_all_there_and_watched() -> None:
    services = compose()["services"]
    assert set(services) == {
        "postgres",
        "redis",
        "migrate",
        "web",
        "control",
        "proxy",
        "triton",
        "worker",
        "shadow",
        "notify",
        "beat",
        "inspector",
    }
    assert {"appendonly", "noeviction"} <= {part.removeprefix("--") for part in services["redis"]["command"]}
    for name in ("postgres", "redis", "worker", "shadow", "notify"):
        assert services[name]["healthcheck"]["test"]
    for name in ("web", "control", "worker", "shadow", "notify", "beat"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    named = set(compose()["volumes"])
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.removeprefix("${TRITON_MODELS:-").split(":")[0]
            assert source in named or (ROOT / source).is_file() or service.get("profiles") == ["gpu"]
        assert set(service.get("depends_on", {})) <= set(services)


def test_compose__services__are_bounded_and_listen_on_this_machine_alone() -> None:
    services = compose()["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert all(port.startswith("${NOREGRET_BIND:-127.0.0.1}:") for port in services["proxy"]["ports"])
    for service in services.values():
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        assert service["logging"]["options"]["max-size"]
    for name in ("migrate", "web", "control", "triton", "worker", "shadow", "notify", "beat"):
        assert services[name]["cap_drop"] == ["ALL"]
    command = services["redis"]["command"]
    assert command[command.index("--maxmemory") + 1].startswith("${REDIS_MAXMEMORY:-")


def test_compose__secrets__have_no_defaults() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for variable in re.findall(r"\$\{(\w*(?:PASSWORD|SECRET)\w*)(.*?)\}", text):
        assert variable[1].startswith(":?")


def test_compose__environment__is_what_the_settings_read() -> None:
    sys.path.insert(0, str(ROOT / "platform"))
    from noregret.variables import VARIABLES

    for name in ("web", "control", "worker", "beat", "migrate"):
        assert set(compose()["services"][name]["environment"]) <= set(VARIABLES)


def test_compose__planes__are_services_of_their_own_and_a_gpu_is_asked_for_by_profile_alone() -> None:
    services = compose()["services"]
    assert "serving.web" in services["web"]["command"]
    assert "noregret.web" in services["control"]["command"]
    assert {"web", "control"} <= set(services["proxy"]["depends_on"])
    assert [name for name, service in services.items() if "profiles" in service] == ["triton"]
    (device,) = services["triton"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_compose__file__is_what_the_compose_specification_has() -> None:
    reader = [str(python_of("deploy")), str(ROOT / "tests" / "clients" / "read_compose.py")]
    told = told_by(reader, file=yaml.safe_load(interpolated()))
    assert set(told.get("services", [])) == set(compose()["services"]), told
    told = told_by(reader, file=yaml.safe_load(interpolated().replace("mem_limit:", "mem_limitt:", 1)))
    assert "mem_limitt" in told["error"]


def interpolated() -> str:
    """The file as compose reads it, with something in the place of each variable without a
    default."""

    def value(match: re.Match[str]) -> str:
        return match["default"] if match["kind"] == ":-" else "given"

    text = (ROOT / "docker-compose.yml").read_text()
    return re.sub(r"\$\{\w+(?P<kind>:[-?])(?P<default>[^}]*)\}", value, text).replace("$$", "$")


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not here to read it")
@pytest.mark.parametrize("upstream", ["machine", "vm"])
def test_proxy__configuration__is_read_by_nginx(tmp_path: Path, upstream: str) -> None:
    folder = ROOT / "deploy" / "nginx"
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"pid {tmp_path}/pid; events {{}} http {{ include {folder}/noregret.conf; include {folder}/upstream.{upstream}.conf; }}"
    )
    found = subprocess.run(
        ["nginx", "-t", "-p", str(tmp_path), "-c", str(main), "-e", str(tmp_path / "errors")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert found.returncode == 0, found.stderr


def test_proxy__limits__are_not_below_the_services() -> None:
    text = (ROOT / "deploy" / "nginx" / "noregret.conf").read_text()
    for timeout in ("client_header_timeout", "client_body_timeout"):
        assert float(re.findall(rf"{timeout}\s+(\d+)s;", text)[0]) == BODY_SECONDS
    limits = [int(limit) * 1024 * 1024 for limit in re.findall(r"client_max_body_size\s+(\d+)m;", text)]
    assert limits[0] >= settings.SERVING_BODY_LIMIT
    assert min(limits[1:]) >= settings.ARTIFACT_LIMIT + ArtifactParser.OVERHEAD
    for view in ("models", "admin:registry_modelversion_add"):
        assert f"location = {reverse(view)} {{" in text


def test_dockerfile__copies_what_exists_and_runs_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists()
    assert re.search(r"^USER noregret$", text, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text()
    assert all(f"!{name}" in ignored for name in ("bandits", "serving", "platform", "requirements.lock"))


def test_check_deploy__without_a_lasting_key__says_what_to_do(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NOREGRET_")}
    found = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy"],
        cwd=ROOT,
        env=environment | {"NOREGRET_DATA_DIR": str(tmp_path), "NOREGRET_HTTPS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 1
    assert "noregret.E001" in found.stderr
    assert "NOREGRET_SECRET_KEY" in found.stderr


def test_image__web_processes__add_up_their_counters_in_a_folder_that_is_empty_after_a_restart() -> None:
    text = (ROOT / "Dockerfile").read_text()
    (folder,) = re.findall(
        r'^CMD \["env", "PROMETHEUS_MULTIPROC_DIR=([^"]+)", "python", "-m", "noregret.web"', text, re.MULTILINE
    )
    assert re.search(rf"install --directory --owner noregret .*{folder}", text)
    assert f"PROMETHEUS_MULTIPROC_DIR={folder}" in compose()["services"]["web"]["command"]
    (mounted,) = compose()["services"]["web"]["tmpfs"]
    assert mounted.startswith(f"{folder}:uid=10001")


def test_queues__each_that_a_task_is_sent_to__has_a_worker() -> None:
    """Also those that earlier versions sent to: their messages may wait at an upgrade."""
    from django.conf import settings
    from noregret.embedded import services

    routed = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
    untold = [queue.name for queue in settings.CELERY_TASK_QUEUES]
    roles = [name for name, service in compose()["services"].items() if "worker" in service.get("command", ())]
    assert {"worker", "shadow", "notify", "inspector"} <= set(roles)
    started = [getattr(services, role)().command for role in roles]
    composed = [compose()["services"][role]["command"] for role in roles]
    for commands in (started, composed):
        heard: set[str] = set()
        for command in commands:
            told = command[command.index("--queues") + 1].split(",") if "--queues" in command else untold
            heard |= set(told)
        # Parts of a rebuild that no worker takes are computed by its command.
        assert heard >= routed - {"rebuild"} | {"celery", "notify"}


def units() -> dict[str, dict[str, list[str]]]:
    """Each service's directives: those that all have, then its own, in the order that systemd reads
    them in."""
    common = (UNITS / "noregret-.service.d" / "common.conf").read_text()
    read: dict[str, dict[str, list[str]]] = {}
    for path in UNITS.glob("*.service"):
        directives = read.setdefault(path.stem.removeprefix("noregret-"), {})
        for name, value in re.findall(r"^(\w+)=(.*)$", f"{common}\n{path.read_text()}", re.MULTILINE):
            directives.setdefault(name, []).append(value)
    return read


def test_units__commands_and_roles__are_those_of_up() -> None:
    from noregret.embedded import services

    read = units()
    assert set(read) == {"migrate", "web", "control", "worker", "shadow", "notify", "inspector", "beat"}
    for role in ("worker", "shadow", "notify", "inspector"):
        (command,) = read[role]["ExecStart"]
        expected = getattr(services, role)().command[3:]  # after the interpreter, -m, and what binds it to `up`
        # systemd reads %% as %.
        assert command.replace("%%", "%").split()[1:] == ["-m", *expected], role
        assert f"NOREGRET_ROLE={role}" in read[role]["Environment"]
    assert "-m serving.web " in read["web"]["ExecStart"][0]
    assert "-m noregret.web " in read["control"]["ExecStart"][0]
    wanted = re.findall(r"noregret-(\w+)\.service", (UNITS / "noregret.target").read_text())
    assert set(wanted) == set(read)
    ports = re.findall(r"127\.0\.0\.1:(\d+)", (ROOT / "deploy" / "nginx" / "upstream.vm.conf").read_text())
    assert ports == [read[plane]["ExecStart"][0].split("--port ")[1].split()[0] for plane in ("web", "control")]


def test_units__environment__is_what_the_settings_read() -> None:
    from noregret.variables import VARIABLES

    others = {"DJANGO_SETTINGS_MODULE", "HOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS"}
    for role, directives in units().items():
        assert directives["EnvironmentFile"] == ["/etc/noregret/noregret.env"]
        named = {pair.partition("=")[0] for line in directives["Environment"] for pair in line.split()}
        assert named <= {*VARIABLES, *others, "OPENBLAS_NUM_THREADS"}, role
        assert not [name for name in named if re.search("SECRET|PASSWORD|URL", name)]


def test_units__restarts_memory_and_weights__are_bounded() -> None:
    for role, directives in units().items():
        assert directives["User"] == ["noregret"]
        assert directives["Restart"] == ["on-failure"]
        assert int(directives["StartLimitBurst"][0]) * int(directives["RestartSec"][0]) < int(
            directives["StartLimitIntervalSec"][0]
        )
        assert directives["MemoryMax"]
        assert ("CPUWeight" in directives) == (role not in {"web", "control", "migrate"})


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here to read them")
def test_units__by_systemd_itself__hold_nothing_unknown_and_leave_little_exposed() -> None:
    paths = sorted(map(str, UNITS.glob("*.service")))
    read = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *paths, str(UNITS / "noregret.target")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # What it starts is not installed where tests run; docs/vm.md is followed by a test of its own.
    told = [line for line in read.stderr.splitlines() if "noregret" in line and "is not executable" not in line]
    assert told == []
    for path in paths:
        told = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", path],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"SYSTEMD_UNIT_PATH": f"{UNITS}:"},
        )
        assert told.returncode == 0, told.stdout[-3000:]
