"""What a network that is cut in two must not do to what was promised, by seconds of partition."""

import time
from typing import Any

import httpx

from tests.promises import Told, Users, unlike_the_ledger, wait_for
from tests.three_hosts import SECRET, ThreeHosts

ENDPOINT, EXPERIMENT = "rows", "zeros-or-ones"


def begin(hosts: ThreeHosts) -> str:
    """An experiment of two models under way; the key of its users."""
    made = hosts.manage("apikey", "users", "--scopes", "predict,feedback,manage")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    with httpx.Client(base_url=hosts.url, headers={"Authorization": f"Bearer {key}"}, timeout=60.0) as http:

        def post(path: str, body: Any) -> None:
            answer = http.post(f"/api/v1/{path}", json=body)
            assert answer.status_code in (200, 201), answer.text

        for version, name in (("1", "zeros"), ("2", "ones")):
            model = {"name": "rows", "version": version, "framework": "python", "callable": f"tests.callables.{name}"}
            post("models", model)
        post("endpoints", {"name": ENDPOINT, "champion": "rows@1"})
        arms = [{"name": "zeros", "model": "rows@1"}, {"name": "ones", "model": "rows@2"}]
        document = {
            "name": EXPERIMENT,
            "endpoint": ENDPOINT,
            "strategy": "bandit",
            "arms": arms,
            "policy": {"name": "thompson", "floor": 0.05, "burn_in": 100},
            "reward": {"kind": "binary", "window_seconds": 120},
            "promotion": {"rule": "anytime", "auto": False},
        }
        post("experiments", document)
        post(f"experiments/{EXPERIMENT}/start", {})
    return key


def part(hosts: ThreeHosts, key: str, other: str, seconds: float) -> Told:
    """The wire between web and another host is cut for so long, under load, and healed; what users
    were told meanwhile and in the seconds after."""
    users = Users(hosts.url, key, ENDPOINT, EXPERIMENT, [[0.0, 1.0], [1.0, 0.0]])
    with users as told:
        assert wait_for(lambda: "" if len(told.arms) > 50 else f"{len(told.arms)} decisions", 60) == ""
        hosts.network.cut("web", other)
        try:
            before = told.statuses["predict", 200]
            time.sleep(seconds)
            during = told.statuses["predict", 200] - before
        finally:
            hosts.network.heal("web", other)
        time.sleep(min(seconds, 5.0))
    assert during > 10 * seconds, f"{during} predictions while {other} was away for {seconds} s"
    assert told.refused == []
    assert told.unanswered == {}
    return told


def unkept(hosts: ThreeHosts, told: Told) -> str:
    """What of it does not hold, once all that was on its way has arrived."""
    lost = wait_for(lambda: unlike_the_ledger(told, SECRET, hosts.database), seconds=120)
    return lost or wait_for(hosts.differing, seconds=120)
