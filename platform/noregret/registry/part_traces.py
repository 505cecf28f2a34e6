"""What single parts of a model remember: thresholds, means and scales, categories, edges, support
vectors, planes.

Parts are read by what they hold, by the names of their attributes. Each reader takes (part,
features, generator) and may raise anything for a part that holds something else by that name. Runs
only in the inspecting child process.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .traces import JOINT, USUAL, Rows, Traces, finite

MEMBERS = 60  # asked of an ensemble
_STEPS = np.array([-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0])


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
    for position in np.unique(np.linspace(0, len(stages) - 1, MEMBERS).astype(int)) if stages else ():
        for member in stages[position]:
            held = member.nodes
            traces += _of_nodes(
                held["feature_idx"], held["num_threshold"], held["left"].astype(int), held["right"].astype(int),
                held["is_leaf"].astype(bool) | held["is_categorical"].astype(bool), features, generator, floats=False,
            )  # fmt: skip
    mapper = getattr(part, "_bin_mapper", None)
    for column, edges in enumerate(getattr(mapper, "bin_thresholds_", []) if mapper is not None else []):
        traces.values[column] = np.union1d(traces.values[column], finite(edges))
    categorical = getattr(mapper, "is_categorical_", None) if mapper is not None else None
    if categorical is not None:
        traces.exact = frozenset(int(column) for column in np.flatnonzero(categorical))
    return traces


def _of_nodes(
    feature: NDArray[Any], threshold: NDArray[Any], left: NDArray[Any], right: NDArray[Any], leaf: NDArray[np.bool_],
    features: int, generator: np.random.Generator, *, floats: bool,
) -> Traces:  # fmt: skip
    """Thresholds, with what a float or double makes of their neighbours, and rows that reach
    them."""
    splits = np.flatnonzero(~leaf)
    values = [np.empty(0) for _ in range(features)]
    for column in np.unique(feature[splits]).tolist():
        held = finite(threshold[splits][feature[splits] == column])
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
    """A tree that compares float(x) turns where floats turn, halfway between those on either side
    of its threshold."""
    single = thresholds.astype(np.float32)
    low = np.where(single > thresholds, np.nextafter(single, np.float32(-np.inf)), single)
    high = np.nextafter(low, np.float32(np.inf))
    turn = (low.astype(np.float64) + high.astype(np.float64)) / 2
    return finite(
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
            traces.values[column] = np.union1d(traces.values[column], finite(spread))
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
            traces.values[column] = finite(np.linspace(low[column], high[column], 33))
    return traces


def _lists(part: Any, features: int, generator: np.random.Generator) -> Traces:
    """Categories of encoders, each of each feature; those that ignore unknown ones are shown
    some."""
    traces = Traces.none(features)
    categories = getattr(part, "categories_", None)
    if categories is None or len(categories) != features:
        return traces
    strict = getattr(part, "handle_unknown", "error") == "error"
    for column, held in enumerate(categories):
        known = finite([value for value in held.tolist() if isinstance(value, int | float)])
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
            traces += Traces([finite(column) for column in some.T], some)
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
        traces.values = [finite(held) for held in lists]
    return traces


def _planes(part: Any, features: int, generator: np.random.Generator) -> Traces:
    """Linear models tell where their planes cut each axis, and their feet: data lie on both
    sides."""
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
        held = finite(cuts[:, column])
        size = np.abs(held).max(initial=0.0) or 1.0
        spread = (held[:, None] * np.array([0.5, 0.9, 1.0, 1.1, 2.0])).ravel()
        traces.values[column] = np.union1d(finite(spread), USUAL * min(size, 1e12))
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


READERS = (_trees, _histograms, _centres, _bounds, _lists, _points, _edges, _planes, _counts)
