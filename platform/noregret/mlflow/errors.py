"""What can go wrong with MLflow.

MlflowError
├── ImportRefused        the version can't be taken as it is
├── MlflowNotSet         no MLflow is named in the settings
└── MlflowUnavailable    its server did not answer, or not as one does
"""


class MlflowError(Exception):
    """The root of these."""


class ImportRefused(MlflowError):
    """The version can't be taken as it is; the message says what would help."""


class MlflowNotSet(MlflowError):
    """No MLflow is named in the settings."""


class MlflowUnavailable(MlflowError):
    """Its server did not answer, or not as one does."""
