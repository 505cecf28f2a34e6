"""Which model versions a key for some endpoints knows of. `endpoints` is a key's limit; None: it is
for every endpoint.

A version is an endpoint's when a key for that endpoint alone registered it, or when something of
the endpoint uses it. What uses versions stands above the registry, and enters itself here when it
starts. Everything else of the registry such a key can neither read nor use; whether a name is taken
it learns when it tries to register under it.
"""

from collections.abc import Callable, Collection
from typing import Any

from django.db.models import Exists, Model, Q, QuerySet

from .models import ModelVersion

Limit = Collection[str] | None
Users = Callable[[], "QuerySet[Any]"]
"""Rows that use the version `OuterRef("pk")`."""

_USES: dict[tuple[type[Model], str], Users] = {}


def add_use(kind: type[Model], endpoint: str, users: Users) -> None:
    """From now on a version is an endpoint's also by `users`, rows of `kind`; `endpoint` is the
    path to the endpoint's name."""
    _USES[kind, endpoint] = users


def seen_models(endpoints: Limit) -> "QuerySet[ModelVersion]":
    rows = ModelVersion.objects.all()
    if endpoints is None:
        return rows
    names = sorted(endpoints)
    seen = Q(endpoints__contained_by=names)
    for (_, endpoint), users in _USES.items():
        seen |= Q(Exists(users().filter(**{f"{endpoint}__in": names})))
    return rows.filter(seen)


def may_register(endpoints: Limit, name: str) -> bool:
    """Is a name of models free, or these endpoints' and no other's?"""
    if endpoints is None:
        return True
    names = sorted(endpoints)
    versions = ModelVersion.objects.filter(name=name)
    others = Q(endpoints__isnull=False) & ~Q(endpoints__contained_by=names)
    for (_, endpoint), users in _USES.items():
        others |= Q(Exists(users().exclude(**{f"{endpoint}__in": names})))
    if versions.filter(others).exists():
        return False
    return not versions.exists() or seen_models(endpoints).filter(name=name).exists()
