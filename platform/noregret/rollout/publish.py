"""From the database to the snapshot of an endpoint: which models, which arms, with which
probabilities.

`Endpoint.policy_version` is the version of the state: whoever changes what is served raises it in
the transaction of the change, by `publish_endpoint_on_commit`, and the snapshot is built from one
state of the database: the version with its rows, or the one before with its own. No lock is held
meanwhile: a hundred arms may take most of a second, and whoever changes the endpoint would wait.
Whoever is overtaken while he builds changes nothing, for an older version never replaces a newer
one (serving.publication), and the newer one has a publisher of its own. So a version names one
state, a later version a later one; and if whoever made the change is killed before it published, or
Redis is away, the versions differ, and the learner publishes (noregret.steering.pending).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import msgspec
import redis
import structlog
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from noregret.experiments.batches import batch
from noregret.experiments.caching import cache
from noregret.experiments.models import Arm, Endpoint, Experiment
from noregret.experiments.policies import made_policy
from noregret.experiments.rewards import reward_model
from noregret.learning.contextual import belief_of, policy_of
from noregret.learning.knowledge import known_to_policy
from noregret.learning.shares import propensities
from noregret.redis_client import client, keys
from noregret.registry.frameworks import model_document
from serving import publication, snapshot
from serving.snapshot import as_sent

from . import baselines
from .open_rewards import open_rewards, reward_document

log = structlog.get_logger(__name__)


def _experiment_document(experiment: Experiment) -> snapshot.Experiment:
    arms = list(experiment.arms.select_related("model").order_by("position"))
    contextual = policy_of(experiment)
    # Policies that count their own pulls choose in the web process, by what their memory left.
    policy = made_policy(experiment)
    known = known_to_policy(experiment, arms, policy)
    shares = propensities(experiment, arms)
    chosen = experiment.policy_
    belief = None if contextual is None else belief_of(experiment, contextual, reward_model(experiment))
    return snapshot.Experiment(
        id=experiment.pk,
        name=experiment.name,
        strategy=cast("snapshot.Strategy", experiment.strategy),
        reward=reward_document(experiment),
        policy=None if chosen is None else snapshot.Policy(chosen.name, chosen.params, chosen.floor, chosen.burn_in),
        context=msgspec.to_builtins(experiment.context_.fields),
        holdout=experiment.holdout,
        apprentice=experiment.apprentice,
        sticky=experiment.sticky,
        edge_evidence=experiment.edge_evidence,
        edge_exclusions=experiment.edge_exclusions,
        # An apprentice's arms predict in the shadow, so that its choices can be scored.
        shadow_sample=1.0
        if experiment.apprentice
        else 0.0
        if experiment.shadow_ is None
        else experiment.shadow_.sample,
        belief=None if belief is None else snapshot.Belief(belief.mean.tolist(), belief.covariance.tolist()),
        arms=[
            snapshot.Arm(
                id=arm.pk,
                name=arm.name,
                model=model_document(arm.model),
                propensity=0.0 if share is None else share,
                enabled=arm.enabled,
                is_control=arm.is_control,
                payload=as_sent(arm.payload),
                count=float(known.remembered.count[i]),
                mean=float(known.remembered.mean[i]),
                m2=float(known.remembered.m2[i]),
                learned=float(known.learned[i]),
                open=float(known.open[i]),
            )
            for i, (arm, share) in enumerate(zip(arms, shares, strict=True))
        ],
    )


BUILD_TIMEOUT_MS = 10_000
"""No query of a snapshot takes longer: then it is not published, and told."""


@contextmanager
def _one_state() -> Iterator[None]:
    """One state of the database for everything that is read inside, and no lock on it. Raises
    RuntimeError within a transaction: what that one has done and others can't see yet would be in
    the snapshot, and it could not see what they did."""
    if transaction.get_connection().in_atomic_block:
        raise RuntimeError("a snapshot is built after the transaction that changes what it shows")
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(f"SET LOCAL statement_timeout = {BUILD_TIMEOUT_MS}")
        yield


def build(endpoint_id: int) -> snapshot.Endpoint:
    """The snapshot of the present state. Raises Endpoint.DoesNotExist."""
    with _one_state():
        endpoint = Endpoint.objects.select_related("champion").get(pk=endpoint_id)
        running = endpoint.experiments.filter(
            status=Experiment.Status.RUNNING, arms__in=Arm.objects.filter(enabled=True)
        ).first()  # without an enabled arm the champion answers
        kept, together = cache(endpoint.cache), batch(endpoint.batch)
        return snapshot.Endpoint(
            id=endpoint.pk,
            name=endpoint.name,
            version=endpoint.policy_version,
            published_at=timezone.now().timestamp(),
            champion=model_document(endpoint.champion),
            deadline_ms=endpoint.deadline_ms,
            experiment=None if running is None else _experiment_document(running),
            baseline=baselines.recorded(endpoint),
            rewards=open_rewards(endpoint),
            cache=None if kept is None else snapshot.Cache(kept.entries, kept.seconds),
            batch=None if together is None else snapshot.Batch(together.rows, together.wait_ms),
        )


def publish_endpoint(endpoint_id: int) -> bool:
    """Publish the present state; False when Redis is away. Harmless where it is there already: the
    same version is not replaced."""
    document = build(endpoint_id)
    try:
        publication.publish(client(), keys(), document)
    except redis.RedisError as error:
        log.warning("snapshot not published", endpoint=document.name, error=str(error))
        return False
    return True


def publish_endpoint_on_commit(endpoint_id: int) -> None:
    """Called in the transaction of each change of what is served: raises the version there, and
    publishes after the commit.

    Robust: what is committed is answered as done, and a snapshot that could not be built or sent is
    the learner's to publish.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("the version is raised in the transaction of the change that it stands for")
    Endpoint.objects.filter(pk=endpoint_id).update(policy_version=F("policy_version") + 1)
    transaction.on_commit(lambda: publish_endpoint(endpoint_id), robust=True)


def publish_experiment_on_commit(experiment: Experiment) -> None:
    """The same for an experiment of which something new is known
    (noregret.learning.unpublished)."""
    publish_endpoint_on_commit(experiment.endpoint_id)


def overtake(endpoint_id: int, version: int) -> None:
    """Go past a version that Redis holds and the database does not know: it was restored from a
    backup, and would never be heard."""
    with transaction.atomic():
        if Endpoint.objects.filter(pk=endpoint_id, policy_version__lt=version).update(policy_version=version):
            publish_endpoint_on_commit(endpoint_id)
