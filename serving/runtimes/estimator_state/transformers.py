"""Other steps that write tables of a width that they say, or search in edges, quantiles and
knots."""

from typing import Any

import numpy as np
from scipy.special import comb
from sklearn.preprocessing import (
    OneHotEncoder,
)
from sklearn.utils import check_array

from .requirements import array_of, features_of, is_ascending, require

_MOST_TERMS = 1_000_000
"""Terms of a polynomial, with which a single row takes 8 MB."""


def check_polynomial(transformer: Any) -> None:
    """It makes a table as wide as one attribute says, without filling it, and writes the terms that
    the others say."""
    held = vars(transformer)
    if "n_features_in_" not in held and "_n_out_full" not in held:
        return
    features, message = (
        features_of(transformer),
        "the degrees and the number of terms of a PolynomialFeatures do not fit together",
    )
    degrees = held.get("degree")
    pair = [0, degrees] if isinstance(degrees, int | np.integer) else list(degrees) if _is_pair(degrees) else []
    require(pair and all(isinstance(one, int | np.integer) for one in pair) and 0 <= pair[0] <= pair[1], message)
    least, most = (int(one) for one in pair)
    with_bias, only_products = held.get("include_bias"), held.get("interaction_only")
    require(all(isinstance(switch, bool | np.bool_) for switch in (with_bias, only_products)), message)
    require((held.get("_min_degree"), held.get("_max_degree")) == (least, most), message)
    full = given_on = int(bool(with_bias))
    for degree in range(1, (min(most, features) if only_products else most) + 1):
        terms = comb(features, degree, exact=True) if only_products else comb(features + degree - 1, degree, exact=True)
        full += terms
        given_on += terms if degree >= least else 0
        require(full <= _MOST_TERMS, f"a PolynomialFeatures of more than {_MOST_TERMS} terms")
    require((held.get("_n_out_full"), held.get("n_output_features_")) == (full, given_on) and given_on > 0, message)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and len(value) == 2


def check_discretizer(transformer: Any) -> None:
    held = vars(transformer)
    if "bin_edges_" not in held:
        return
    features, edges, counts = features_of(transformer), held["bin_edges_"], held.get("n_bins_")
    message = "the edges of the bins of a KBinsDiscretizer do not fit together"
    require(len(edges) == features and np.shape(counts) == (features,), message)
    for column, count in zip(edges, np.asarray(counts).tolist(), strict=True):
        require(
            isinstance(column, np.ndarray)
            and column.dtype.kind == "f"
            and column.shape == (count + 1,)
            and not np.isnan(column).any(),
            message,
        )
        require(is_ascending(column), "the edges of the bins of a KBinsDiscretizer are out of order")
    if held.get("encode") != "ordinal":
        encoder = held.get("_encoder")
        require(type(encoder) is OneHotEncoder and "categories_" in vars(encoder), message)
        require([len(known) for known in encoder.categories_] == np.asarray(counts).tolist(), message)


def check_quantiles(transformer: Any) -> None:
    if "quantiles_" not in vars(transformer):
        return
    quantiles, references = array_of(transformer, "quantiles_", 2, "f"), array_of(transformer, "references_", 1, "f")
    require(
        quantiles.shape == (len(references), features_of(transformer)),
        "the quantiles of a QuantileTransformer do not fit together",
    )
    require(
        is_ascending(quantiles) and is_ascending(references),
        "the quantiles of a QuantileTransformer are out of order",
    )


def check_isotonic(estimator: Any) -> None:
    if "X_thresholds_" not in vars(estimator):
        return
    places, values = array_of(estimator, "X_thresholds_", 1, "f"), array_of(estimator, "y_thresholds_", 1, "f")
    require(places.shape == values.shape, "the thresholds of an IsotonicRegression do not fit together")
    require(is_ascending(places), "the thresholds of an IsotonicRegression are out of order")


def check_function(transformer: Any) -> None:
    for name in ("func", "inverse_func"):
        function = vars(transformer).get(name)
        known = function is None or isinstance(function, np.ufunc)
        require(known or getattr(function, "func", None) is check_array, "a FunctionTransformer holds a function")
    for name in ("kw_args", "inv_kw_args"):
        require(not vars(transformer).get(name), "a FunctionTransformer holds arguments for its function")


def check_splines(transformer: Any) -> None:
    from scipy.interpolate import BSpline

    splines = vars(transformer).get("bsplines_", [])
    require(isinstance(splines, list) and all(type(one) is BSpline for one in splines), "splines that are none")
    require(all(is_ascending(one.t) for one in splines), "the knots of a spline are out of order")
