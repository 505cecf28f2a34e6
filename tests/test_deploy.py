"""The container files: no engine builds them here, so their shape is checked."""

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

ROOT = Path(__file__).resolve().parents[1]


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
        "proxy",
        "worker",
        "shadow",
        "notify",
        "beat",
        "inspector",
    }
    assert {"appendonly", "noeviction"} <= {part.removeprefix("--") for part in services["redis"]["command"]}
    for name in ("postgres", "redis", "worker", "shadow", "notify"):
        assert services[name]["healthcheck"]["test"]
    for name in ("web", "worker", "shadow", "notify", "beat"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    named = set(compose()["volumes"])
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in named or (ROOT / source).is_file()
        assert set(service.get("depends_on", {})) <= set(services)


def test_compose__services__are_bounded_and_listen_on_this_machine_alone() -> None:
    services = compose()["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert all(port.startswith("${NOREGRET_BIND:-127.0.0.1}:") for port in services["proxy"]["ports"])
    for service in services.values():
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        assert service["logging"]["options"]["max-size"]
    for name in ("migrate", "web", "worker", "shadow", "notify", "beat"):
        assert services[name]["cap_drop"] == ["ALL"]
    command = services["redis"]["command"]
    assert command[command.index("--maxmemory") + 1].startswith("${REDIS_MAXMEMORY:-")


def test_compose__secrets__have_no_defaults() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for variable in re.findall(r"\$\{(\w*(?:PASSWORD|SECRET)\w*)(.*?)\}", text):
        assert variable[1].startswith(":?")


def test_compose__environment__is_what_the_settings_read() -> None:
    sys.path.insert(0, str(ROOT / "platform"))
    from noregret.env import VARIABLES

    for name in ("web", "worker", "beat", "migrate"):
        assert set(compose()["services"][name]["environment"]) <= set(VARIABLES)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not here to read it")
def test_proxy__configuration__is_read_by_nginx(tmp_path: Path) -> None:
    folder = ROOT / "deploy" / "nginx"
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"pid {tmp_path}/pid; events {{}} http {{ include {folder}/noregret.conf; include {folder}/upstream.machine.conf; }}"
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
        assert heard >= routed | {"celery", "notify"}
