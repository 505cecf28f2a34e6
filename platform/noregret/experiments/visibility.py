"""Which model versions a key for some endpoints knows of. `endpoints` is a key's limit; None: it is for every endpoint.

A version is an endpoint's when the endpoint's champion, an earlier champion or an arm of one of its experiments is it, or when a key
for that endpoint alone registered it. Everything else of the registry such a key can neither read nor use; whether a name is taken it
learns when it tries to register under it.
"""

from collections.abc import Collection

from django.db.models import Exists, OuterRef, Q, QuerySet

from noregret.registry.models import ModelVersion

from .errors import Invalid
from .models import Arm, ChampionChange, Endpoint

Limit = Collection[str] | None


def seen_models(endpoints: Limit) -> "QuerySet[ModelVersion]":
    rows = ModelVersion.objects.all()
    if endpoints is None:
        return rows
    names = sorted(endpoints)
    return rows.filter(
        Q(endpoints__contained_by=names)
        | Exists(Endpoint.objects.filter(champion=OuterRef("pk"), name__in=names))
        | Exists(_changes_with_version().filter(endpoint__name__in=names))
        | Exists(Arm.objects.filter(model=OuterRef("pk"), experiment__endpoint__name__in=names))
    )


def may_register(endpoints: Limit, name: str) -> bool:
    """Is a name of models free, or these endpoints' and no other's?"""
    if endpoints is None:
        return True
    versions = ModelVersion.objects.filter(name=name)
    others = Q(endpoints__isnull=False) & ~Q(endpoints__contained_by=sorted(endpoints))
    elsewhere = (
        Exists(Endpoint.objects.filter(champion=OuterRef("pk")).exclude(name__in=endpoints))
        | Exists(_changes_with_version().exclude(endpoint__name__in=endpoints))
        | Exists(Arm.objects.filter(model=OuterRef("pk")).exclude(experiment__endpoint__name__in=endpoints))
    )
    if versions.filter(others | elsewhere).exists():
        return False
    return not versions.exists() or seen_models(endpoints).filter(name=name).exists()


def require_seen(endpoints: Limit, references: dict[str, str]) -> None:
    """Raises Invalid for the first of these versions, `name@version` by field, that is not there for the caller."""
    if endpoints is None:
        return
    for field, reference in references.items():
        name, _, version = reference.partition("@")
        if not seen_models(endpoints).filter(name=name, version=version).exists():
            raise Invalid(field, f"no model version {reference} is registered")


def _changes_with_version() -> "QuerySet[ChampionChange]":
    return ChampionChange.objects.filter(Q(champion=OuterRef("pk")) | Q(previous=OuterRef("pk")))
