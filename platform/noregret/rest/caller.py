"""Who calls the control plane."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the name for the audit trail, and the endpoints that it may see (None: all)."""

    name: str
    scopes: frozenset[str]
    endpoints: frozenset[str] | None
    is_authenticated: bool = True

    def may_see(self, endpoint: str) -> bool:
        return self.endpoints is None or endpoint in self.endpoints
