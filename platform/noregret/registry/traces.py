"""What a fitted model remembers of its data. Runs only in the inspecting child process.

Models keep traces of their data: thresholds, means and scales, categories, bin edges, support vectors. Each step of a pipeline is
asked for its own, and what lies behind a step is pulled back through it. Parts are read by what they hold, not by what they are
called. No model is called here but to turn a step around.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

VALUES = 200  # kept a feature and step
JOINT = 600  # joint rows kept a step
_MEMBERS = 60  # asked of an ensemble
USUAL = np.array([-2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0])  # where nothing is known, and behind a scaler
_STEPS = np.array([-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0])

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


@dataclass(slots=True)
class Traces:
    """What is known of one space of rows: values by feature, joint rows (NaN: any value), features that take no other values."""

    values: list[Rows]
    joint: Rows  # (rows, features)
    exact: frozenset[int] = frozenset()

    @classmethod
    def none(cls, features: int) -> "Traces":
        return cls([np.empty(0) for _ in range(features)], np.empty((0, features)))

    @property
    def features(self) -> int:
        return len(self.values)

    def __add__(self, other: "Traces") -> "Traces":
        """Of two parts that see the same rows."""
        values = [
            np.unique(np.concatenate((ours, theirs))) for ours, theirs in zip(self.values, other.values, strict=True)
        ]
        return Traces(values, np.concatenate((self.joint, other.joint)), self.exact | other.exact)

    def thinned(self, generator: np.random.Generator) -> "Traces":
        values = [generator.choice(held, VALUES, replace=False) if len(held) > VALUES else held for held in self.values]
        joint = self.joint
        if len(joint) > JOINT:
            joint = joint[generator.choice(len(joint), JOINT, replace=False)]
        return Traces(values, joint, self.exact)

    def placed(self, columns: Sequence[int], features: int) -> "Traces":
        """The same of a wider row, of which these features are `columns`."""
        wider = Traces.none(features)
        joint = np.full((len(self.joint), features), np.nan)
        for position, column in enumerate(columns):
            wider.values[column] = np.union1d(wider.values[column], self.values[position])
            joint[:, column] = self.joint[:, position]
        return Traces(wider.values, joint, frozenset(columns[position] for position in self.exact))

    def taken(self, columns: Sequence[int]) -> "Traces":
        """Of a narrower row, which holds these columns."""
        exact = frozenset(position for position, column in enumerate(columns) if column in self.exact)
        return Traces([self.values[column] for column in columns], self.joint[:, list(columns)], exact)

    def grid(self) -> Rows:
        """A matrix whose columns hold each feature's values, repeated to the longest."""
        columns = [held if len(held) else USUAL for held in self.values]
        longest = max((len(held) for held in columns), default=0)
        return np.stack([np.resize(held, longest) for held in columns], axis=1) if columns else np.empty((0, 0))

    def filled(self, generator: np.random.Generator) -> Rows:
        """The joint rows, with a value of the feature's own wherever any will do."""
        joint = self.joint.copy()
        for column, held in enumerate(self.values):
            holes = np.isnan(joint[:, column])
            joint[holes, column] = generator.choice(held if len(held) else USUAL, int(holes.sum()))
        return joint


class Reader:
    """Reads traces from fitted estimators by what they hold, not by what they are called: one class more needs no line here."""

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
        """Of a pipeline's rows. Its last step may be a model, which gives no rows that anything comes after."""
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
                values = [_finite(column) for column in inverse(after.grid()).T]
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
        for read in (_trees, _histograms, _centres, _bounds, _lists, _points, _edges, _planes, _counts):
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
        for position in np.unique(np.linspace(0, len(members) - 1, _MEMBERS).astype(int)) if members else ():
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


def _finite(values: Any) -> Rows:
    column = np.unique(np.asarray(values, dtype=np.float64).ravel())
    kept: Rows = column[np.isfinite(column)]
    return kept


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
            traces.values[used[0]] = np.union1d(traces.values[used[0]], _finite(both))
    return traces


# What parts hold, by the names of their attributes. Each takes (part, features, generator).


def _trees(part: Any, features: int, generator: np.random.Generator) -> Traces:
    fitted = getattr(part, "tree_", None)
    if fitted is None:
        return Traces.none(features)
    return _of_nodes(
        fitted.feature, fitted.threshold, fitted.children_left, fitted.children_right, fitted.children_left < 0,
        features, generator, floats=True,
    )  # fmt: skip


def _histograms(part: Any, features: int, generator: np.random.Generator) -> Traces:
    traces = Traces.none(features)
    stages = getattr(part, "_predictors", None) or []
    for position in np.unique(np.linspace(0, len(stages) - 1, _MEMBERS).astype(int)) if stages else ():
        for member in stages[position]:
            held = member.nodes
            traces += _of_nodes(
                held["feature_idx"], held["num_threshold"], held["left"].astype(int), held["right"].astype(int),
                held["is_leaf"].astype(bool) | held["is_categorical"].astype(bool), features, generator, floats=False,
            )  # fmt: skip
    mapper = getattr(part, "_bin_mapper", None)
    for column, edges in enumerate(getattr(mapper, "bin_thresholds_", []) if mapper is not None else []):
        traces.values[column] = np.union1d(traces.values[column], _finite(edges))
    categorical = getattr(mapper, "is_categorical_", None) if mapper is not None else None
    if categorical is not None:
        traces.exact = frozenset(int(column) for column in np.flatnonzero(categorical))
    return traces


def _of_nodes(
    feature: NDArray[Any], threshold: NDArray[Any], left: NDArray[Any], right: NDArray[Any], leaf: NDArray[np.bool_],
    features: int, generator: np.random.Generator, *, floats: bool,
) -> Traces:  # fmt: skip
    """Thresholds, with what a float or double makes of their neighbours, and rows that reach them."""
    splits = np.flatnonzero(~leaf)
    values = [np.empty(0) for _ in range(features)]
    for column in np.unique(feature[splits]).tolist():
        held = _finite(threshold[splits][feature[splits] == column])
        values[column] = np.union1d(held, np.nextafter(held, np.inf)) if not floats else _around_float(held)
    parent = np.full(len(leaf), -1)
    went_left = np.zeros(len(leaf), dtype=bool)
    parent[left[splits]], parent[right[splits]] = splits, splits
    went_left[left[splits]] = True
    ends = generator.choice(splits, min(len(splits), 12), replace=False) if len(splits) else splits
    joint = np.full((2 * len(ends), features), np.nan)
    for position, end in enumerate(ends.tolist()):
        low, high = np.full(features, -np.inf), np.full(features, np.inf)
        node, steps = end, 0
        while parent[node] >= 0 and steps < len(leaf):  # nodes come from an uploaded file: no trust in their order
            above, steps = int(parent[node]), steps + 1
            column, edge = int(feature[above]), float(threshold[above])
            if went_left[node]:
                high[column] = min(high[column], edge)
            else:
                low[column] = max(low[column], edge)
            node = above
        bounded = np.flatnonzero(np.isfinite(low) | np.isfinite(high)).tolist()
        for row, column in ((row, column) for row in (2 * position, 2 * position + 1) for column in bounded):
            if np.isfinite(high[column]) and np.isfinite(low[column]):
                joint[row, column] = (low[column] + high[column]) / 2 if row % 2 else high[column]
            elif np.isfinite(high[column]):
                joint[row, column] = high[column]
            else:
                step = np.nextafter(low[column], np.inf) if row % 2 else low[column] + abs(low[column]) / 8
                joint[row, column] = step
        column, edge = int(feature[end]), float(threshold[end])
        joint[2 * position, column], joint[2 * position + 1, column] = edge, np.nextafter(np.float32(edge), np.inf)
    return Traces(values, joint)


def _around_float(thresholds: Rows) -> Rows:
    """A tree that compares float(x) turns where floats turn, halfway between those on either side of its threshold."""
    single = thresholds.astype(np.float32)
    low = np.where(single > thresholds, np.nextafter(single, np.float32(-np.inf)), single)
    high = np.nextafter(low, np.float32(np.inf))
    turn = (low.astype(np.float64) + high.astype(np.float64)) / 2
    return _finite(
        np.concatenate((thresholds, low, high, turn, np.nextafter(turn, -np.inf), np.nextafter(turn, np.inf)))
    )


def _centres(part: Any, features: int, generator: np.random.Generator) -> Traces:
    """Means with scales, medians with ranges, naive Bayes' means with variances."""
    traces = Traces.none(features)
    pairs = [
        (getattr(part, "mean_", None), getattr(part, "scale_", None)),
        (getattr(part, "center_", None), getattr(part, "scale_", None)),
    ]
    variance = getattr(part, "var_", None)
    if variance is not None:
        pairs.append((getattr(part, "mean_", None), np.sqrt(variance)))
        pairs.append((getattr(part, "theta_", None), np.sqrt(variance)))
    for centre, scale in pairs:
        if (
            centre is None
            or np.shape(centre)[-1:] != (features,)
            or (scale is not None and np.shape(scale) != np.shape(centre))
        ):
            continue
        middle = np.atleast_2d(np.asarray(centre, dtype=np.float64))
        width = np.ones_like(middle) if scale is None else np.atleast_2d(np.asarray(scale, dtype=np.float64))
        draws = np.concatenate((_STEPS, generator.normal(size=40)))
        for column in range(features):
            spread = middle[:, column, None] + width[:, column, None] * draws
            traces.values[column] = np.union1d(traces.values[column], _finite(spread))
        noise = generator.normal(size=(max(1, 60 // len(middle)), *middle.shape))
        traces.joint = np.concatenate((traces.joint, middle, (middle + width * noise).reshape(-1, features)))
    return traces


def _bounds(part: Any, features: int, generator: np.random.Generator) -> Traces:
    """Least and greatest values seen."""
    traces = Traces.none(features)
    low, high = getattr(part, "data_min_", None), getattr(part, "data_max_", None)
    if low is None and getattr(part, "max_abs_", None) is not None:
        low, high = -part.max_abs_, part.max_abs_
    if low is not None and high is not None and np.shape(low) == np.shape(high) == (features,):
        for column in range(features):
            traces.values[column] = _finite(np.linspace(low[column], high[column], 33))
    return traces


def _lists(part: Any, features: int, generator: np.random.Generator) -> Traces:
    """Categories of encoders, each of each feature; those that ignore unknown ones are shown some."""
    traces = Traces.none(features)
    categories = getattr(part, "categories_", None)
    if categories is None or len(categories) != features:
        return traces
    strict = getattr(part, "handle_unknown", "error") == "error"
    for column, held in enumerate(categories):
        known = _finite([value for value in held.tolist() if isinstance(value, int | float)])
        more = np.concatenate((known + 0.5, known[-1:] + 1.0)) if not strict and len(known) else known[:0]
        traces.values[column] = np.union1d(known, more)
    traces.exact = frozenset(range(features))
    return traces


def _points(part: Any, features: int, generator: np.random.Generator) -> Traces:
    """Rows that were kept whole: support vectors, neighbours, processes' data, centres."""
    traces = Traces.none(features)
    for name in ("support_vectors_", "_fit_X", "X_train_", "cluster_centers_", "means_", "centroids_"):
        rows = getattr(part, name, None)
        if isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.shape[1] == features:
            some = rows[generator.choice(len(rows), min(len(rows), JOINT), replace=False)].astype(np.float64)
            traces += Traces([_finite(column) for column in some.T], some)
    return traces


def _edges(part: Any, features: int, generator: np.random.Generator) -> Traces:
    """Bin edges, knots, quantiles, what missing values become, the threshold of a binarizer."""
    traces = Traces.none(features)
    lists: list[Any] = list(getattr(part, "bin_edges_", ()))
    lists = lists or [spline.t for spline in getattr(part, "bsplines_", ())]
    if not lists and getattr(part, "quantiles_", None) is not None:
        lists = list(np.asarray(part.quantiles_).T)
    if not lists and getattr(part, "statistics_", None) is not None:
        lists = [[value] for value in part.statistics_]
    if not lists and getattr(part, "X_thresholds_", None) is not None:
        lists = [part.X_thresholds_]
    if not lists and isinstance(getattr(part, "threshold", None), int | float) and hasattr(part, "transform"):
        lists = [[part.threshold]] * features
    if len(lists) == features:
        traces.values = [_finite(held) for held in lists]
    return traces


def _planes(part: Any, features: int, generator: np.random.Generator) -> Traces:
    """Linear models tell where their planes cut each axis, and their feet: data lie on both sides."""
    traces = Traces.none(features)
    slopes = getattr(part, "coef_", None)
    if slopes is None:
        layers = getattr(part, "coefs_", None)
        slopes, offsets = (None, None) if not layers else (layers[0].T, part.intercepts_[0])
    else:
        offsets = getattr(part, "intercept_", 0.0)
    if slopes is None:
        return traces
    planes = np.atleast_2d(np.asarray(slopes, dtype=np.float64))[:32]
    if planes.shape[1] != features:
        return traces
    heights = np.resize(np.ravel(np.asarray(offsets, dtype=np.float64)), len(planes))
    cuts = -heights[:, None] / np.where(planes == 0.0, np.nan, planes)
    for column in range(features):
        held = _finite(cuts[:, column])
        size = np.abs(held).max(initial=0.0) or 1.0
        spread = (held[:, None] * np.array([0.5, 0.9, 1.0, 1.1, 2.0])).ravel()
        traces.values[column] = np.union1d(_finite(spread), USUAL * min(size, 1e12))
    norms = (planes**2).sum(axis=1, keepdims=True)
    feet = -heights[:, None] * planes / np.where(norms == 0.0, np.nan, norms)
    traces.joint = feet[np.isfinite(feet).all(axis=1)]
    return traces


def _counts(part: Any, features: int, generator: np.random.Generator) -> Traces:
    """Naive Bayes of counts and of categories."""
    traces = Traces.none(features)
    held = getattr(part, "feature_log_prob_", None)
    if isinstance(held, list) and len(held) == features:
        traces.values = [np.arange(table.shape[1], dtype=np.float64) for table in held]
        traces.exact = frozenset(range(features))
    elif isinstance(held, np.ndarray) and held.shape[-1] == features:
        traces.values = [np.arange(9.0) for _ in range(features)]
        traces.exact = frozenset(range(features))
    return traces
