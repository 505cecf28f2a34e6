"""Which files of the artefact store are this installation's: it removes no others.

A row stands for each file that was stored from here, and says when that was asked for last. What
else lies there may be another installation's, or of a database that was lost and comes back: to be
named by no version here says nothing about it. (A listing of the store was asked before: two
installations with one bucket removed each other's models after a week.)
"""

from collections.abc import Callable
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from .artifact_storage import StorageSource
from .models import ModelVersion, StoredFile

AT_ONCE = 1000
"""Files that one round removes at most: each is a call of the store."""


def note(source: StorageSource, sha256: str, size: int) -> None:
    """It is stored from here, now: said before it is done, so that whoever removes it is either
    over, or leaves it. One that is there already, and not by us, stays another's. Raises
    SourceFailed."""
    now = timezone.now()
    is_ours = StoredFile.objects.filter(sha256=sha256).update(stored_at=now)
    if not is_ours and not source.holds(sha256, size):
        StoredFile.objects.bulk_create(
            [StoredFile(sha256=sha256, stored_at=now)],
            update_conflicts=True,
            unique_fields=["sha256"],
            update_fields=["stored_at"],
        )


def is_file_of_a_version(sha256: str) -> bool:
    """Does a version name the file, as it was sent or as compiled?"""
    return ModelVersion.objects.filter(Q(sha256=sha256) | Q(compiled_sha256=sha256)).exists()


def remove_old(source: StorageSource, before: datetime) -> int:
    """Remove what was last stored before, and no version names; how many. Raises what the store
    raises."""
    named = ModelVersion.objects.filter(Q(sha256=OuterRef("sha256")) | Q(compiled_sha256=OuterRef("sha256")))
    old = StoredFile.objects.filter(~Exists(named), stored_at__lt=before).order_by("stored_at")
    return sum(
        remove(source, sha256, before, is_file_of_a_version)
        for sha256 in list(old.values_list("sha256", flat=True)[:AT_ONCE])
    )


def remove(source: StorageSource, sha256: str, before: datetime, is_named: Callable[[str], bool]) -> bool:
    """Remove a file unless it is not ours, was stored again since, or `is_named` after all; was it
    removed?

    Whoever stores it meanwhile waits for its row, and stores it when it is gone.
    """
    with transaction.atomic():
        ours = StoredFile.objects.select_for_update(skip_locked=True).filter(sha256=sha256, stored_at__lt=before)
        row = ours.first()
        if row is None or is_named(sha256):
            return False
        source.remove(sha256)
        row.delete()
        return True
