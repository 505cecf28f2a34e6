"""Which entries of the audit trail a person sees.

What was typed at a failed login may be a password: those entries are for whoever manages people.
"""

from django.db.models import QuerySet
from django.http import HttpRequest

from noregret.trail.models import AuditEntry

OF_LOGINS = ("login.failed",)


def entries_for(request: HttpRequest) -> QuerySet[AuditEntry]:
    """Newest first. The caller has asked whether the person sees the trail at all."""
    rows = AuditEntry.objects.order_by("-pk")
    return rows if request.user.has_perm("auth.view_user") else rows.exclude(action__in=OF_LOGINS)
