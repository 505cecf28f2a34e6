"""The Helm chart, rendered by Helm itself and held against Kubernetes' own schemas: every
combination of what can be chosen, and what is refused."""

import itertools
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from noregret import variables
from noregret.embedded import services

from serving.store import START_SECONDS
from serving.web import server
from tests.client_environments import ROOT, python_of, told_by

CHART = ROOT / "deploy" / "helm" / "noregret"
COMPONENT = "app.kubernetes.io/component"
OLDEST, NEWEST = "1.25", "1.37"
PARTS = ["web", "control", "worker", "shadow", "notify", "inspector", "beat"]

BASE: dict[str, Any] = {
    "existingSecret": "noregret",
    "config": {"allowedHosts": ["noregret.example.com"]},
    "artifacts": {"existingClaim": "models"},
}
SECRET = {
    "existingSecret": "",
    "secret": {
        "databaseUrl": "postgresql://noregret:p%40ss@db:5432/noregret",
        "redisUrl": "redis://:pass@redis:6379/0",
        "secretKey": "0123456789-0123456789-0123456789",
    },
}
MORE_KEYS = {"brokerUrl": "BROKER", "replicaUrl": "REPLICA"}
CHOICES: list[dict[str, dict[str, Any]]] = [
    {"plain": {}, "autoscaling": {"web": {"autoscaling": {"enabled": True}}}},
    {"": {}, "ingress": {"ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls"}}},
    {"": {"networkPolicy": {"enabled": False}}, "policy": {"networkPolicy": {"enabled": True}}},
    {"": {"secretKeys": MORE_KEYS}, "secret": SECRET},
    {"": {}, "store": {"artifacts": {"existingClaim": "", "storage": {"BACKEND": "storages.backends.s3.S3Storage"}}}},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"webb": {}}, "additional properties 'webb' not allowed"),
    ({"web": {"replicas": "two"}}, "/web/replicas': got string, want integer"),
    ({"web": {"replicas": 0}}, "/web/replicas': minimum: got 0, want 1"),
    ({"web": {"resources": {"limits": {"memory": "a lot"}}}}, "/web/resources/limits/memory'"),
    ({"web": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}}, "minReplicas is larger"),
    ({"beat": {"replicas": 2}}, "/beat': additional properties 'replicas' not allowed"),
    ({"config": {"allowedHosts": []}}, "/config/allowedHosts': minItems: got 0, want 1"),
    ({"config": {"allowedHosts": ["https://a.example.com/"]}}, "/config/allowedHosts/0': "),
    ({"config": {"allowedHosts": ["*"]}}, "/config/allowedHosts/0': "),
    ({"config": {"logLevel": "LOUD"}}, "/config/logLevel': value must be one of"),
    ({"config": {"extra": {"NOREGRET_LEDGER_DAYS": 90}}}, "NOREGRET_LEDGER_DAYS': got number, want string"),
    ({"config": {"extra": {"REDIS_URL": "redis://other"}}}, "REDIS_URL has a value of its own in this chart"),
    ({"existingSecret": ""}, "existingSecret names no Secret: then secret.databaseUrl is needed"),
    ({"existingSecret": "", "secret": SECRET["secret"] | {"secretKey": "short"}}, "/secret/secretKey'"),  # type: ignore[operator]
    (SECRET | {"secretKeys": MORE_KEYS}, "are keys of a Secret that existingSecret names"),
    ({"secret": SECRET["secret"]}, "and secret.* holds values beside it"),
    ({"artifacts": {"existingClaim": ""}}, "name a store in artifacts.storage, or a ReadWriteMany claim"),
    ({"artifacts": {"storage": {"BACKEND": "x.Y"}}}, "storage and existingClaim are both set"),
]


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Values as Helm lays later ones over earlier."""
    whole: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            both = isinstance(value, dict) and isinstance(whole.get(name), dict)
            whole[name] = merged(whole[name], value) if both else value
    return whole


COMBINATIONS = [
    merged(BASE, *(choice[name] for choice, name in zip(CHOICES, names, strict=True)))
    for names in itertools.product(*CHOICES)
]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What Helm makes of every combination, and of what is to be refused, in that order."""
    given = [*COMBINATIONS, *(merged(BASE, values) for values, _ in REFUSED)]
    answer: dict[str, Any] = told_by(
        [str(python_of("deploy")), str(ROOT / "tests" / "clients" / "render_chart.py")],
        chart=str(CHART),
        kubernetes=[OLDEST, NEWEST],
        values=given,
    )
    return answer


def found(rendered: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The documents of a kind, by what follows the release's name."""
    return {
        document["metadata"]["name"].removeprefix("shop-noregret").removeprefix("-"): document
        for document in rendered["documents"]
        if document["kind"] == kind
    }


def pods(rendered: dict[str, Any]) -> dict[str, dict[str, Any]]:
    documents = found(rendered, "Deployment") | found(rendered, "Job")
    return {name: document["spec"]["template"]["spec"] for name, document in documents.items()}


def test_chart__lint__finds_nothing_to_mend(told: dict[str, Any]) -> None:
    assert told["lint"]["errors"] == []
    assert [message for message in told["lint"]["messages"] if "icon" not in message["error"]] == []


def test_chart__every_combination__is_valid_for_kubernetes(told: dict[str, Any]) -> None:
    assert len(COMBINATIONS) == 32
    for values, rendered in zip(COMBINATIONS, told["rendered"], strict=False):
        assert "error" not in rendered, (rendered["error"], values)
        assert rendered["problems"] == []
        chosen = {document["kind"] for document in rendered["documents"]}
        assert ("HorizontalPodAutoscaler" in chosen) == bool(values.get("web"))
        assert ("Ingress" in chosen) == bool(values.get("ingress"))
        assert ("NetworkPolicy" in chosen) == values["networkPolicy"]["enabled"]
        assert ("Secret" in chosen) == (values["existingSecret"] == "")
        # With an autoscaler the number of pods is its alone: a Deployment that says one resets it
        # at each upgrade.
        assert ("replicas" in found(rendered, "Deployment")["web"]["spec"]) == (not values.get("web"))
        names = {name: document["spec"]["template"]["spec"] for name, document in found(rendered, "Job").items()}
        assert set(names) == {"migrate"}


def test_chart__value_that_is_wrong_or_unknown__is_refused_with_its_name(told: dict[str, Any]) -> None:
    for (values, said), rendered in zip(REFUSED, told["rendered"][len(COMBINATIONS) :], strict=True):
        assert "error" in rendered, values
        assert said in rendered["error"], (values, rendered["error"])


def test_chart__pods__are_confined_and_bounded(told: dict[str, Any]) -> None:
    for rendered in told["rendered"][: len(COMBINATIONS)]:
        specs = pods(rendered)
        assert set(specs) == {*PARTS, "proxy", "migrate"}
        for name, spec in specs.items():
            assert spec["securityContext"]["runAsNonRoot"], name
            assert spec["automountServiceAccountToken"] is False
            (container,) = spec["containers"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"].keys() == {"memory"}, name
            mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert "/tmp" in mounted  # noqa: S108 - the only place beside /data where it may write
            named = {volume["name"] for volume in spec["volumes"]}
            assert {mount["name"] for mount in container["volumeMounts"]} == named


def test_chart__secrets__come_by_reference_alone(told: dict[str, Any]) -> None:
    for values, rendered in zip(COMBINATIONS, told["rendered"], strict=False):
        for name, spec in pods(rendered).items():
            for variable in spec["containers"][0].get("env", []):
                if re.search("URL|SECRET", variable["name"]):
                    reference = variable["valueFrom"]["secretKeyRef"]
                    assert reference["name"] == (values["existingSecret"] or "shop-noregret-secret"), name
        if values["existingSecret"] == "":
            (secret,) = found(rendered, "Secret").values()
            assert secret["stringData"] == {
                "DATABASE_URL": SECRET["secret"]["databaseUrl"],  # type: ignore[index]
                "REDIS_URL": SECRET["secret"]["redisUrl"],  # type: ignore[index]
                "NOREGRET_SECRET_KEY": SECRET["secret"]["secretKey"],  # type: ignore[index]
            }
            # Before the migrations that need it.
            weights = [
                int(one["metadata"]["annotations"]["helm.sh/hook-weight"])
                for one in (secret, found(rendered, "Job")["migrate"])
            ]
            assert weights[0] < weights[1]


def test_chart__settings__are_those_that_the_service_reads(told: dict[str, Any]) -> None:
    plain = told["rendered"][0]
    for name, spec in pods(plain).items():
        given = {variable["name"]: variable.get("value") for variable in spec["containers"][0].get("env", [])}
        assert set(given) <= set(variables.VARIABLES), name
        assert name == "proxy" or {"NOREGRET_BROKER_URL", "NOREGRET_REPLICA_URL"} <= set(given)
        if name != "proxy":
            assert given["NOREGRET_PROXIES"] == "1"
            hosts = given["NOREGRET_ALLOWED_HOSTS"].split(",")
            assert hosts[:2] == ["noregret.example.com", "shop-noregret"]
            assert hosts[-1] == "shop-noregret.models.svc"
    (store,) = [
        rendered for values, rendered in zip(COMBINATIONS, told["rendered"], strict=False) if values == COMBINATIONS[1]
    ]
    given = {one["name"]: one.get("value") for one in pods(store)["web"]["containers"][0]["env"]}
    assert json.loads(given["NOREGRET_ARTIFACT_STORAGE"]) == {"BACKEND": "storages.backends.s3.S3Storage"}
    behind_ingress = next(
        rendered for values, rendered in zip(COMBINATIONS, told["rendered"], strict=False) if values.get("ingress")
    )
    assert {"name": "NOREGRET_PROXIES", "value": "2"} in pods(behind_ingress)["web"]["containers"][0]["env"]


def test_chart__commands__are_those_of_up(told: dict[str, Any], tmp_path: Path) -> None:
    specs = pods(told["rendered"][0])
    starts: dict[str, Callable[[], Any]] = {
        role: getattr(services, role) for role in ("worker", "shadow", "notify", "inspector")
    }
    for role, start in starts.items():
        command = specs[role]["containers"][0]["command"]
        expected = start().command[3:]  # after the interpreter, -m, and what binds it to `up`
        assert sorted(command) == sorted(expected), role
    assert specs["web"]["containers"][0]["command"][:3] == ["python", "-m", "serving.web"]
    assert specs["control"]["containers"][0]["command"][:3] == ["python", "-m", "noregret.web"]
    deployments = found(told["rendered"][0], "Deployment")
    assert deployments["beat"]["spec"]["replicas"] == 1
    assert deployments["beat"]["spec"]["strategy"] == {"type": "Recreate"}


def test_chart__probes_and_ends__match_the_service(told: dict[str, Any]) -> None:
    specs = pods(told["rendered"][0])
    for plane in ("web", "control"):
        container = specs[plane]["containers"][0]
        # That a process lives asks no server: a lost database restarts nobody.
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        startup = container["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] > START_SECONDS
        (_, pause) = container["lifecycle"]["preStop"]["exec"]["command"]
        assert specs[plane]["terminationGracePeriodSeconds"] > int(pause) + server.STOP_SECONDS + 5
    for role in ("worker", "shadow", "notify", "inspector", "beat"):
        assert "livenessProbe" not in specs[role]["containers"][0]
        assert specs[role]["terminationGracePeriodSeconds"] > services.STOP_SECONDS


def test_chart__network_policies__let_in_the_proxy_alone(told: dict[str, Any]) -> None:
    policies = found(
        next(
            rendered
            for values, rendered in zip(COMBINATIONS, told["rendered"], strict=False)
            if values["networkPolicy"]["enabled"]
        ),
        "NetworkPolicy",
    )
    assert set(policies) == {*PARTS, "proxy", "migrate"}
    for name, policy in policies.items():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        incoming = policy["spec"]["ingress"]
        if name in {"web", "control"}:
            assert [one["podSelector"]["matchLabels"][COMPONENT] for one in incoming[0]["from"]] == ["proxy"]
        elif name == "proxy":
            assert incoming == [{"ports": [{"port": 8000}]}]
        else:
            assert incoming == []


def test_chart__budgets_and_services__select_pods_that_there_are(told: dict[str, Any]) -> None:
    rendered = told["rendered"][0]
    labels = [
        document["spec"]["template"]["metadata"]["labels"]
        for document in (found(rendered, "Deployment") | found(rendered, "Job")).values()
    ]
    selectors = [one["spec"]["selector"] for one in found(rendered, "Service").values()]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in found(rendered, "PodDisruptionBudget").values()]
    assert len(selectors) == 3 + 7
    for selector in selectors:
        assert sum(selector.items() <= label.items() for label in labels) == 1
    upstream = found(rendered, "ConfigMap")["proxy"]["data"]["upstream.conf"]
    for name in re.findall(r"server ([\w-]+):8000", upstream):
        assert name in {one["metadata"]["name"] for one in found(rendered, "Service").values()}


def test_chart__configuration_of_the_proxy__is_the_one_file(told: dict[str, Any]) -> None:
    configuration = found(told["rendered"][0], "ConfigMap")["proxy"]["data"]["default.conf"]
    assert configuration.strip() == (ROOT / "deploy" / "nginx" / "noregret.conf").read_text().strip()


def test_chart__versions__are_the_projects() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == project["version"]
