"""What a fitted model remembers of its data. Runs only in the inspecting child process.

Models keep traces of their data: thresholds, means and scales, categories, bin edges, support
vectors. Each step of a pipeline is asked for its own, and what lies behind a step is pulled back
through it. Parts are read by what they hold, not by what they are called. No model is called here
but to turn a step around.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .part_traces import MEMBERS, READERS
from .traces import JOINT, Rows, Traces, finite

_INVERSES: dict[str, Callable[[Rows], Rows]] = {
    "log1p": np.expm1,
    "expm1": np.log1p,
    "log": np.exp,
    "log2": np.exp2,
    "log10": lambda x: np.power(10.0, x),
    "exp": np.log,
    "sqrt": np.square,
    "square": np.sqrt,
    "cbrt": lambda x: np.power(x, 3),
    "negative": np.negative,
    "reciprocal": np.reciprocal,
}
_ELEMENTWISE = {
    "StandardScaler",
    "MinMaxScaler",
    "MaxAbsScaler",
    "RobustScaler",
    "PowerTransformer",
    "QuantileTransformer",
}


class Reader:
    """Reads traces from fitted estimators by what they hold, not by what they are called: one class
    more needs no line here."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def model(self, estimator: Any, features: int) -> Traces:
        """Of the rows that this estimator takes."""
        steps = getattr(estimator, "steps", None)
        if steps:
            return self._before_steps([step for _, step in steps], Traces.none(0), features)
        traces = self._own(estimator, features)
        preprocessor = getattr(estimator, "_preprocessor", None)  # histogram boosting orders its columns
        if preprocessor is not None:
            inner = traces
            return self.before(preprocessor, inner, features)
        for member, columns in _members(estimator):
            if columns is not None:
                if len(columns) and max(columns) < features:
                    traces += self.model(member, len(columns)).placed(columns, features)
            elif getattr(member, "n_features_in_", features) == features:
                traces += self.model(member, features)
        return traces.thinned(self._generator)

    def before(self, step: Any, after: Traces, features: int) -> Traces:
        """Of the rows that a transforming step takes, from those that it gives."""
        if step is None or step == "passthrough":
            return after if after.features == features else Traces.none(features)
        if isinstance(step, str):  # "drop"
            return Traces.none(features)
        if getattr(step, "steps", None):
            return self._before_steps([inner for _, inner in step.steps], after, features)
        if hasattr(step, "transformers_"):
            return self._before_columns(step, after, features)
        if hasattr(step, "transformer_list"):
            return self._before_union(step, after, features)
        return (self._own(step, features) + self._pulled_back(step, after, features)).thinned(self._generator)

    def _before_steps(self, steps: list[Any], after: Traces, features: int) -> Traces:
        """Of a pipeline's rows. Its last step may be a model, which gives no rows that anything
        comes after."""
        widths = [features]
        for step in steps[1:]:
            width = getattr(step, "n_features_in_", None)
            widths.append(widths[-1] if width is None else int(width))
        for position in range(len(steps) - 1, -1, -1):
            step, width = steps[position], widths[position]
            last = position == len(steps) - 1
            after = self.model(step, width) if last and hasattr(step, "predict") else self.before(step, after, width)
        return after

    def _before_columns(self, step: Any, after: Traces, features: int) -> Traces:
        traces = Traces.none(features)
        slices = getattr(step, "output_indices_", {})
        indices = getattr(step, "_transformer_to_input_indices", {})
        for name, inner, columns in step.transformers_:
            places = indices.get(name, columns)
            places = [int(place) for place in places] if _are_positions(places) else []
            given = slices.get(name)
            if not places or max(places) >= features:
                continue
            outputs = range(*given.indices(after.features)) if isinstance(given, slice) else range(0)
            held = after.taken(list(outputs)) if after.features else Traces.none(0)
            traces += self.before(inner, held, len(places)).placed(places, features)
        return traces

    def _before_union(self, step: Any, after: Traces, features: int) -> Traces:
        traces, begin = Traces.none(features), 0
        for _, inner in step.transformer_list:
            try:
                width = len(inner.get_feature_names_out())
            except Exception:  # one that does not tell where its columns lie is asked for its own traces only
                width = 0
            end = min(begin + width, after.features)
            traces += self.before(inner, after.taken(list(range(begin, end))), features)
            begin = end
        return traces

    def _pulled_back(self, step: Any, after: Traces, features: int) -> Traces:
        nothing = Traces.none(features)
        support = getattr(step, "get_support", None)
        try:
            if support is not None:
                kept = np.flatnonzero(support())
                return (
                    after.placed([int(column) for column in kept], features) if len(kept) == after.features else nothing
                )
            if hasattr(step, "powers_"):
                return _from_powers(np.asarray(step.powers_), after, features)
            if hasattr(step, "categories_"):
                return nothing  # a category is a category: there is nothing near it
            inverse = _inverse(step)
            if inverse is None:
                return nothing
            if type(step).__name__ in _ELEMENTWISE or hasattr(step, "func"):
                if not after.features:
                    after = nothing
                values = [finite(column) for column in inverse(after.grid()).T]
                joint = inverse(after.joint) if len(after.joint) else after.joint
                return Traces(values, joint, after.exact) if len(values) == features else nothing
            if not after.features:
                return nothing
            rows = inverse(np.concatenate((after.filled(self._generator), _shuffled(after.grid(), self._generator))))
            rows = rows[np.isfinite(rows).all(axis=1)][:JOINT]
            return Traces([np.unique(column) for column in rows.T], rows) if rows.shape[1:] == (features,) else nothing
        except Exception:  # a step whose inverse fails is asked for its own traces only
            return nothing

    def _own(self, part: Any, features: int) -> Traces:
        traces = Traces.none(features)
        for read in READERS:
            try:
                traces += read(part, features, self._generator)
            except Exception:  # noqa: S112 - a part that holds something else by this name has no such trace
                continue
        return traces


def _are_positions(places: Any) -> bool:
    return isinstance(places, list | tuple | np.ndarray | range) and all(
        isinstance(place, int | np.integer) and not isinstance(place, bool) for place in places
    )


def _members(estimator: Any) -> Iterator[tuple[Any, list[int] | None]]:
    """What an ensemble or a search holds, and which columns it sees (None: all)."""
    held = getattr(estimator, "estimators_", None)
    if held is not None:
        members = list(np.ravel(np.asarray(held, dtype=object))) if isinstance(held, np.ndarray) else _flat(held)
        columns = getattr(estimator, "estimators_features_", None)
        for position in np.unique(np.linspace(0, len(members) - 1, MEMBERS).astype(int)) if members else ():
            yield members[position], None if columns is None else [int(column) for column in columns[position]]
    for name in ("estimator_", "best_estimator_", "regressor_", "classifier_"):
        member = getattr(estimator, name, None)
        if member is not None:
            kept = np.flatnonzero(estimator.get_support()) if hasattr(estimator, "get_support") else ()
            narrowed = len(kept) == getattr(member, "n_features_in_", None)
            yield member, [int(column) for column in kept] if narrowed else None
    for member in getattr(estimator, "calibrated_classifiers_", ()):
        yield member.estimator, None


def _flat(held: Any) -> list[Any]:
    return [part for member in held for part in (_flat(member) if isinstance(member, list | tuple) else [member])]


def _shuffled(grid: Rows, generator: np.random.Generator) -> Rows:
    """Columns apart: rows that combine values at random."""
    return np.stack([generator.permutation(column) for column in grid.T], axis=1) if grid.size else grid


def _inverse(step: Any) -> Callable[[Rows], Rows] | None:
    function = getattr(step, "func", None)
    if function is not None and getattr(step, "inverse_func", None) is None:
        return _INVERSES.get(getattr(function, "__name__", ""))
    inverse = getattr(step, "inverse_transform", None)
    return None if inverse is None else lambda rows: np.asarray(inverse(rows.copy()), dtype=np.float64)


def _from_powers(powers: NDArray[Any], after: Traces, features: int) -> Traces:
    """Of polynomial features: those that hold one feature's power."""
    traces = Traces.none(features)
    if not after.features:
        return traces
    for output, exponents in enumerate(powers):
        used = np.flatnonzero(exponents)
        if len(used) == 1:
            root = np.power(np.abs(after.values[output]), 1.0 / exponents[used[0]])
            both = np.concatenate((np.sign(after.values[output]) * root, root))
            traces.values[used[0]] = np.union1d(traces.values[used[0]], finite(both))
    return traces


# What parts hold, by the names of their attributes. Each takes (part, features, generator).
