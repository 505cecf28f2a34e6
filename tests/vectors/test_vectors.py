"""Ten thousand shared vectors: the service, an installed package, the Python edge client and the
JavaScript one choose the same arms with the same propensities."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from noregret.packaging.contents import Terms
from noregret.packaging.export import wheel_of
from noregret_client.edge import choosing
from noregret_client.edge.bundle import Bundle

from serving.artifacts import ArtifactStore
from tests.client_environments import told_by
from tests.packages.environments import installed
from tests.programs import NODE
from tests.vectors import making

HOLD = Path(__file__).with_name("hold_package.py")
HOLD_JAVASCRIPT = Path(__file__).with_name("hold_javascript.mjs")
DIST = Path(__file__).resolve().parents[2] / "clients" / "javascript" / "dist"


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    return making.vectors()


@pytest.fixture(scope="module")
def file(cases: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "vectors.json"
    path.write_bytes(making.file_of(cases, 1))
    return path


def test_vectors__are_ten_thousand__of_every_kind__and_the_same_by_seed(cases: list[dict[str, Any]]) -> None:
    asked = [vector for case in cases for vector in case["vectors"]]
    assert len(asked) == making.VECTORS
    expected = [vector["expected"] for vector in asked]
    assert sum(one["holdout"] for one in expected) > 100
    assert sum(not one["by_arm"] for one in expected) > 100
    assert sum(bool(vector["exclude"]) for vector in asked) > 2000
    assert msgspec.json.encode(making.vectors(count=300)) == msgspec.json.encode(making.vectors(count=300))


def test_package__in_an_environment_with_numpy_alone__chooses_as_the_service(file: Path, tmp_path: Path) -> None:
    document = making.documents(1)["single"]
    wheel = wheel_of(document, ArtifactStore(tmp_path), Terms(None, 0.0))
    python = installed(wheel, tmp_path)
    told = told_by([str(python), str(HOLD)], package=wheel.package, file=str(file))
    assert told["otherwise"] == []
    assert told["asked"] == making.VECTORS
    assert told["foreign"] == []


def test_edge_client__chooses_as_the_service(file: Path) -> None:
    otherwise = []
    for case in json.loads(file.read_bytes())["cases"]:
        bundle = msgspec.convert(case["bundle"], Bundle)
        kept: dict[str, choosing.Route] = {}
        for vector in case["vectors"]:
            expected, found = vector["expected"], by_bundle(bundle, vector, kept)
            if found is None:
                is_same = not expected["by_arm"]
            else:
                arm, away = bundle.arms[found.position].name, 0.0
                if expected["by_arm"]:
                    pairs = zip(found.propensities, expected["propensities"], strict=True)
                    away = max(abs(a - b) for a, b in pairs)
                is_same = (arm, found.holdout, True) == (expected["arm"], expected["holdout"], expected["by_arm"])
                is_same &= away < 1e-9
            if not is_same:
                otherwise.append((case["name"], vector, found))
    assert otherwise[:3] == []


@pytest.mark.skipif(NODE is None, reason="NO NODE: the JavaScript edge client is not held against the vectors")
def test_javascript_edge_client__chooses_as_the_service(file: Path) -> None:
    told = told_by([str(NODE), str(HOLD_JAVASCRIPT)], file=str(file), dist=str(DIST))
    assert told["otherwise"] == []
    assert told["asked"] == making.VECTORS


def by_bundle(bundle: Bundle, vector: dict[str, Any], kept: dict[str, choosing.Route]) -> choosing.Route | None:
    """As noregret_client.edge goes about a request."""
    unit, context = vector["unit"], vector["context"]
    excluded = {i for i, arm in enumerate(bundle.arms) if arm.name in vector["exclude"]}
    draws = list(vector["draws"])

    def uniform() -> float:
        return draws.pop(0)

    if not bundle.sticky or unit is None:
        return choosing.route(bundle, unit, context, excluded, uniform)
    held_out = choosing.holdout(bundle, unit, excluded, uniform)
    if held_out is not None:
        return held_out
    if choosing.holdout(bundle, unit, ()) is not None:
        return choosing.route(bundle, None, context, excluded, uniform)
    own = kept.setdefault(unit, choosing.first(bundle, unit, context))
    route = own if not excluded else choosing.kept_among(bundle, unit, own, excluded)
    return route or choosing.route(bundle, None, context, excluded, uniform)
