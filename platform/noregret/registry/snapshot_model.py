"""A model version as a snapshot has it: what a process needs to load it and to read its rows. No database enters this module."""

from typing import Any

from serving import snapshot

from .models import ModelVersion


def model_document(version: ModelVersion) -> snapshot.Model:
    signature = version.signature
    return snapshot.Model(
        model=version.model,
        framework=version.framework,
        runtime=version.runtime,
        sha256=version.compiled_sha256 or version.sha256 or None,
        callable=version.callable or None,
        payload=as_sent(version.payload),
        features=signature["features"],
        feature_names=signature["feature_names"],
        outputs=signature["outputs"],
        classes=as_sent(signature["classes"]),
        example_rows=as_sent(signature.get("example_rows")),  # models of before have none
        call_seconds=version.call_seconds,
        row_seconds=version.row_seconds,
    )


def as_sent(value: Any) -> Any:
    """A JSON value as MessagePack takes it: PostgreSQL gives 1e30 back as a whole number, and MessagePack's have 64 bits."""
    if isinstance(value, dict):
        return {key: as_sent(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_sent(inner) for inner in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        try:
            return float(value)
        except OverflowError:  # four hundred digits: no number that a client's JSON would hold
            return str(value)
    return value
