"""Lists that say which filter of their address was not understood: a list that passes it over looks
as if it had been narrowed."""

from collections.abc import Iterator
from typing import Any

from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import build_q_object_from_lookup_parameters
from django.contrib.admin.views.main import ERROR_FLAG, IGNORED_PARAMS, PAGE_VAR
from django.core.exceptions import FieldError, ValidationError
from django.db import DataError, transaction
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from noregret.rest.problems import NotUnderstood

_NO_FILTERS = {*IGNORED_PARAMS, PAGE_VAR, ERROR_FLAG}
_REFUSED = (FieldError, ValidationError, ValueError, TypeError, DataError)
_LONGEST = 100


class NarrowedLists(ModelAdmin):  # type: ignore[misc]  # unfold ships no types
    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Raises NotUnderstood, which is answered by a page with 400."""
        try:
            with transaction.atomic():  # what the database refuses ends no more than this
                return super().get_changelist_instance(request)
        except (IncorrectLookupParameters, DisallowedModelAdminLookup, DataError) as error:
            unknown = ", ".join(self._not_understood(request))
            if unknown:
                raise NotUnderstood(
                    f"the list can't be narrowed by {unknown}: it has no such filter, or none of such a value. "
                    "Nothing is shown, for it would be everything"
                ) from error
            page = request.GET.get(PAGE_VAR, "")[:_LONGEST]
            raise NotUnderstood(f"the list has no page {page}" if page else "the list can't be narrowed so") from error

    def _not_understood(self, request: HttpRequest) -> Iterator[str]:
        """Each filter by itself, as the address has it."""
        for name, values in request.GET.lists():
            if name in _NO_FILTERS:
                continue
            try:
                if self.lookup_allowed(name, values[-1], request):
                    narrowed = build_q_object_from_lookup_parameters({name: values})
                    with transaction.atomic():
                        self.get_queryset(request).filter(narrowed).exists()
                    continue
            except _REFUSED:
                pass
            yield f"{name}={values[-1]}"[:_LONGEST]
