"""Which types of a skops file may be loaded beyond those that skops trusts by itself, and which
never are.

skops trusts every public estimator of scikit-learn. What their fitted state needs besides is listed
here with the one way in which skops may make it: a type that is called, where it should only be
filled, would be another door. Compiled types are not here at all: `compiled_parts` builds them from
state that it has checked.
"""

_OBJECTS = (
    "sklearn._loss.link.HalfLogitLink",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogLink",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.AbsoluteError",
    "sklearn._loss.loss.ExponentialLoss",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfGammaLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfPoissonLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn._loss.loss.HuberLoss",
    "sklearn._loss.loss.PinballLoss",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.cluster._bisect_k_means._BisectingTree",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.CompoundKernel",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.DotProduct",
    "sklearn.gaussian_process.kernels.ExpSineSquared",
    "sklearn.gaussian_process.kernels.Exponentiation",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.PairwiseKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.RationalQuadratic",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.impute._iterative.IterativeImputer",
    "sklearn.metrics._scorer._CurveScorer",
    "sklearn.model_selection._search_successive_halving.HalvingGridSearchCV",
    "sklearn.model_selection._search_successive_halving.HalvingRandomSearchCV",
    "sklearn.multiclass._ConstantPredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
)
_SPARSE = (
    "scipy.sparse._coo.coo_array",
    "scipy.sparse._coo.coo_matrix",
    "scipy.sparse._csc.csc_array",
    "scipy.sparse._csc.csc_matrix",
    "scipy.sparse._csr.csr_array",
    "scipy.sparse._csr.csr_matrix",
)
# They read arrays and do nothing else.
_FUNCTIONS = (
    # What FeatureAgglomeration pools with.
    "numpy.amax",
    "numpy.amin",
    "numpy.max",
    "numpy.mean",
    "numpy.median",
    "numpy.min",
    "numpy.sum",
    # What a tuned threshold was tuned for: it says which label is the positive one.
    "sklearn.metrics._classification.accuracy_score",
    "sklearn.metrics._classification.balanced_accuracy_score",
    "sklearn.metrics._classification.cohen_kappa_score",
    "sklearn.metrics._classification.f1_score",
    "sklearn.metrics._classification.fbeta_score",
    "sklearn.metrics._classification.jaccard_score",
    "sklearn.metrics._classification.matthews_corrcoef",
    "sklearn.metrics._classification.precision_score",
    "sklearn.metrics._classification.recall_score",
)
# Kinds of columns, as a column selector names them.
_TYPES = (
    "builtins.object",
    "numpy.bool",
    "numpy.character",
    "numpy.floating",
    "numpy.inexact",
    "numpy.integer",
    "numpy.number",
    "numpy.signedinteger",
    "numpy.unsignedinteger",
)

LOADERS: dict[str, str] = {
    **dict.fromkeys(_OBJECTS, "ObjectNode"),
    **dict.fromkeys(_SPARSE, "SparseMatrixNode"),
    **dict.fromkeys(_FUNCTIONS, "FunctionNode"),
    **dict.fromkeys(_TYPES, "TypeNode"),
    "numpy.dtype": "DTypeNode",
    "sklearn.impute._iterative._ImputerTriplet": "TupleNode",
    "sklearn.utils._bunch.Bunch": "DictNode",
}
"""By full name of a type: the only loader of skops that may make it."""

_NO_ROWS = "takes {what}, and a row here is a list of numbers and texts"
REFUSED: dict[str, str] = {
    "sklearn.feature_extraction._dict_vectorizer.DictVectorizer": _NO_ROWS.format(what="dictionaries"),
    "sklearn.feature_extraction._hash.FeatureHasher": _NO_ROWS.format(what="names of features"),
    "sklearn.feature_extraction.image.PatchExtractor": _NO_ROWS.format(what="images"),
}
"""Estimators that skops trusts and that are never loaded, with the reason: none of them could be
served."""

FITTING_ONLY = frozenset(
    {
        "_checked_cv_orig",
        "_kmeans_single",
        "_metadata_request",
        "_optimizer",
        "_scorer",
        "cv",
        "cv_results_",
        "param_distributions",
        "param_grid",
        "score_func",
        "scorer_",
        "scoring",
    }
)
"""Attributes of scikit-learn's estimators that only fitting, searching and scoring read. Whatever
stands there is left out, for it is often a function or a splitter, and no prediction needs it."""
