"""Renders the Helm chart as `helm template` would, once for each set of values, and holds what
comes out against Kubernetes' own schemas. Nothing of it asks a cluster or a network.

Argument: `{"chart": path, "kubernetes": [versions], "values": [{...}, ...]}`. Prints a list: for
each set its `documents` and their `problems`, or the `error` that refused it.
"""

import functools
import json
import sys
from typing import Any

import helm_python
import kubernetes_validate
import yaml


def main() -> None:
    asked = json.loads(sys.argv[-1])
    lint = helm_python.lint(asked["chart"], asked["values"][0], strict=True)
    with helm_python.Chart.load(asked["chart"]) as chart:
        rendered = [_render(chart, values, asked["kubernetes"]) for values in asked["values"]]
    print(json.dumps({"lint": lint, "rendered": rendered}))


def _render(chart: helm_python.Chart, values: dict[str, Any], versions: list[str]) -> dict[str, Any]:
    try:
        chart.validate_schema(values)
        templates = chart.render(values, name="shop", namespace="models")
    except helm_python.HelmError as error:
        return {"error": str(error)}
    documents = [
        document
        for name, text in templates.items()
        if name.endswith(".yaml")
        for document in yaml.load_all(text, yaml.CSafeLoader)
        if document is not None
    ]
    told = [json.dumps(document, sort_keys=True) for document in documents]
    problems = [problem for version in versions for document in told for problem in _problems(document, version)]
    return {"documents": documents, "problems": problems}


@functools.cache
def _problems(told: str, version: str) -> tuple[str, ...]:
    """What a version of Kubernetes has against a document, given as JSON: most are the same in
    every set, and its schemas are read anew each time."""
    document = json.loads(told)
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        place = ".".join(map(str, error.path))
        return (f"{version} {document['kind']}/{document['metadata']['name']} {place}: {error.message}",)
    return ()


main()
