"""Reads a scikit-learn estimator from a skops file without trusting it: in the inspecting child
process, and again where it is served.

The file's own description of what to make is read first. Types that are compiled code are handed to
`compiled_parts`, attributes that only fitting reads are left out, and a type may only be made in
the way that `skops_types` says. What skops then loads is walked once more by `estimator_state`.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import skops.io

from . import compiled_parts, estimator_state
from .compiled_parts import DISTANCES, LOSSES, NUMBER_CHECK, SEARCH_TREES, SPLINE, TREE, TREE_PREDICTOR, StateInvalid
from .skops_types import FITTING_ONLY, LOADERS, REFUSED

SCHEMA = "schema.json"
_BUILDERS = compiled_parts.__name__
_BUILDER_NAMES = frozenset(
    f"{_BUILDERS}.{builder}"
    for builder in ("tree", "tree_predictor", "search_tree", "distance", "loss", "spline", "number_check")
)
_NOTHING = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": "null", "is_json": True}


class Unreadable(Exception):
    """The file is not taken; the message says why."""


def read(body: bytes, trusted: Sequence[str]) -> Any:
    """The estimator in a skops file. `trusted`: full names of types that the operator allows
    besides. Raises Unreadable."""
    try:
        rewritten = _rewrite(body, frozenset(trusted))
        untrusted = set(skops.io.get_untrusted_types(data=rewritten))
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # a hostile file may raise anything
        raise Unreadable(f"is not a readable skops file: {type(error).__name__}: {error}") from error
    allowed = {*trusted, *LOADERS, *_BUILDER_NAMES}
    unknown = sorted(untrusted - allowed)
    if unknown:
        raise Unreadable(f"holds types that are not allowed here: {', '.join(unknown[:10])}")
    try:
        # Only what the file holds: skops refuses a list with types that it does not need.
        estimator = skops.io.loads(rewritten, trusted=sorted(allowed & untrusted))
        estimator_state.check(estimator)
        estimator_state.choose_columns_by_position(estimator)
        estimator_state.run_in_one_thread(estimator)
    except StateInvalid as error:
        raise Unreadable(f"holds a state that could not be served safely: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise Unreadable(f"can't be loaded: {type(error).__name__}: {error}") from error
    return estimator


def _rewrite(body: bytes, trusted: frozenset[str]) -> bytes:
    """The same file with a description that names no compiled type."""
    rewritten = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as source, zipfile.ZipFile(rewritten, "w") as target:
        schema = json.loads(source.read(SCHEMA))
        root = [schema]
        _rewrite_below(root, trusted)
        # What the whole file says about itself stands in its outermost node.
        for key in ("protocol", "_skops_version"):
            root[0].setdefault(key, schema.get(key))
        target.writestr(SCHEMA, json.dumps(root[0]))
        for name in set(source.namelist()) - {SCHEMA}:
            target.writestr(name, source.read(name))
    return rewritten.getvalue()


def _rewrite_below(root: list[Any], trusted: frozenset[str]) -> None:
    """Replace nodes in place, outer ones first; without recursion, for a hostile file may nest
    deeply."""
    waiting: list[Any] = [root]
    while waiting:
        holder = waiting.pop()
        places = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for place, node in list(places):
            if not isinstance(node, dict | list):
                continue
            if isinstance(node, dict) and "__loader__" in node:
                holder[place] = node = _replaced(node, trusted)
            waiting.append(node)


def _replaced(node: dict[str, Any], trusted: frozenset[str]) -> dict[str, Any]:
    name, loader = _names(node), node["__loader__"]
    if name in _BUILDER_NAMES:
        raise Unreadable("names parts of this program")
    if name == TREE:
        return _built(node, "tree", [node["__reduce__"]["args"], node["content"]])
    if name == TREE_PREDICTOR:
        return _built(node, "tree_predictor", [node["content"]])
    if name in SEARCH_TREES:
        return _built(node, "search_tree", [_text(name), node["content"]])
    if name in DISTANCES:
        return _built(node, "distance", [_text(name), node["content"]])
    if name in LOSSES:
        return _built(node, "loss", [_text(name), node["__reduce__"]["args"]])
    if name == SPLINE:
        fields = node["content"]["content"]
        return _built(node, "spline", [fields[field] for field in ("_t", "_c", "k", "extrapolate", "axis")])
    if name == "functools.partial" and _names(node["content"]["func"]) == NUMBER_CHECK:
        return _built(node, "number_check", [])
    if name in trusted:
        return node
    if name in REFUSED:
        raise Unreadable(f"holds a {node['__class__']}, which {REFUSED[name]}")
    if loader == "LossNode" or (name in LOADERS and loader != LOADERS[name]):
        raise Unreadable(f"makes a {name} in a way that no honest file does")
    if loader == "ObjectNode" and name.startswith("sklearn."):
        _leave_out(node)
    return node


def _names(node: dict[str, Any]) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')}"


def _leave_out(node: dict[str, Any]) -> None:
    """Drop what only fitting reads, unless it is a plain value."""
    content = node.get("content")
    fields = content.get("content") if isinstance(content, dict) else None
    if not isinstance(fields, dict):
        return
    for name in FITTING_ONLY & fields.keys():
        if isinstance(fields[name], dict) and fields[name].get("__loader__") != "JsonNode":
            fields[name] = dict(_NOTHING)


def _built(node: dict[str, Any], builder: str, arguments: list[Any]) -> dict[str, Any]:
    """A node that has skops call one of our builders. It keeps its id: the same tree held twice is
    one tree."""
    called = {
        "__class__": builder,
        "__module__": _BUILDERS,
        "__loader__": "ConstructorFromReduceNode",
        "content": {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": arguments},
    }
    if "__id__" in node:
        called["__id__"] = node["__id__"]
    return called


def _text(value: str) -> dict[str, Any]:
    return {**_NOTHING, "content": json.dumps(value)}
