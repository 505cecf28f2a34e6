"""What a view of an endpoint or an experiment shares with the others: what its address names, if
the caller may see it."""

from django.db.models import QuerySet

from noregret.experiments.models import Endpoint, Experiment
from noregret.rest.views import ManageView
from serving import problems


class AddressedView(ManageView):
    """A view of an endpoint, of an experiment, or of lists of them."""

    def seen_endpoints(self) -> "QuerySet[Endpoint]":
        """The endpoints that the caller may see."""
        rows = Endpoint.objects.select_related("champion")
        return rows if self.caller.endpoints is None else rows.filter(name__in=self.caller.endpoints)

    def endpoint(self, name: str) -> Endpoint:
        found = self.seen_endpoints().filter(name=name).first()
        if found is None:
            raise problems.not_found(f"there is no endpoint {name[:80]}")
        return found

    def seen_experiments(self) -> "QuerySet[Experiment]":
        """The experiments on endpoints that the caller may see."""
        rows = Experiment.objects.select_related("endpoint", "promoted_arm").prefetch_related("arms__model")
        return rows if self.caller.endpoints is None else rows.filter(endpoint__name__in=self.caller.endpoints)

    def experiment(self, name: str) -> Experiment:
        found = self.seen_experiments().filter(name=name).first()
        if found is None:
            raise problems.not_found(f"there is no experiment {name[:80]}")
        return found

    def experiment_id(self, name: str) -> int:
        """The same where no more of the row is needed."""
        found: int | None = self.seen_experiments().filter(name=name).order_by().values_list("pk", flat=True).first()
        if found is None:
            raise problems.not_found(f"there is no experiment {name[:80]}")
        return found
