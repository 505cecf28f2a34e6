"""Which model versions are an endpoint's: its champion, its earlier champions, and the arms of its
experiments."""

from django.db.models import OuterRef, Q

from noregret.registry.visibility import Limit, add_use, seen_models

from .errors import Invalid
from .models import Arm, ChampionChange, Endpoint


def tell_uses() -> None:
    """Tell the registry what uses its versions."""
    version = OuterRef("pk")
    add_use(Endpoint, "name", lambda: Endpoint.objects.filter(champion=version))
    add_use(
        ChampionChange,
        "endpoint__name",
        lambda: ChampionChange.objects.filter(Q(champion=version) | Q(previous=version)),
    )
    add_use(Arm, "experiment__endpoint__name", lambda: Arm.objects.filter(model=version))


def require_seen(endpoints: Limit, references: dict[str, str]) -> None:
    """Raises Invalid for the first of these versions, `name@version` by field, that is not there
    for the caller."""
    if endpoints is None:
        return
    for field, reference in references.items():
        name, _, version = reference.partition("@")
        if not seen_models(endpoints).filter(name=name, version=version).exists():
            raise Invalid(field, f"no model version {reference} is registered")
