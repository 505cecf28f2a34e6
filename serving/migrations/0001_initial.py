
import django.contrib.postgres.fields
from datetime import UTC, datetime, timedelta

from django.db import migrations, models

from serving.ledger import partitions


# Partitioned by day of the decision: Django can't say PARTITION BY, so the tables are made in SQL and only their state
# is told to Django. The default partitions take what comes before its day has one, so that no row is ever refused.
CREATE_LEDGER = """
CREATE TABLE serving_decision (
    id uuid NOT NULL,
    decided_at timestamptz NOT NULL,
    experiment_id bigint NOT NULL,
    arm_id bigint NOT NULL,
    propensities double precision[] NOT NULL,
    propensity double precision NOT NULL,
    policy_version bigint NOT NULL,
    unit varchar(256),
    context jsonb,
    request_id varchar(256),
    latency_ms double precision NOT NULL,
    fallback_reason varchar(64),
    PRIMARY KEY (decided_at, id)
) PARTITION BY RANGE (decided_at);
CREATE TABLE serving_decision_default PARTITION OF serving_decision DEFAULT;
CREATE INDEX decision_by_experiment ON serving_decision (experiment_id, decided_at);
CREATE INDEX decision_by_unit ON serving_decision (experiment_id, unit, decided_at);
CREATE TABLE serving_reward (
    decision_id uuid NOT NULL,
    decided_at timestamptz NOT NULL,
    metric varchar(63) NOT NULL,
    experiment_id bigint NOT NULL,
    arm_id bigint NOT NULL,
    value double precision NOT NULL,
    occurred_at timestamptz,
    recorded_at timestamptz NOT NULL,
    late boolean NOT NULL,
    defaulted boolean NOT NULL,
    late_value double precision,
    folded boolean NOT NULL,
    matured boolean NOT NULL,
    PRIMARY KEY (decided_at, decision_id, metric)
) PARTITION BY RANGE (decided_at);
CREATE TABLE serving_reward_default PARTITION OF serving_reward DEFAULT;
CREATE INDEX reward_to_fold ON serving_reward (experiment_id) WHERE NOT folded AND NOT late;
CREATE INDEX reward_by_experiment ON serving_reward (experiment_id, metric, decided_at);
"""


def make_first_partitions(apps, schema_editor):
    """Partitions from the first day on: one that is made later, under traffic, makes rows that race it be refused once."""
    today = datetime.now(tz=UTC).date()
    with schema_editor.connection.cursor() as cursor:
        partitions.ensure(cursor, today - timedelta(days=1), today + timedelta(days=7), LEDGER)


LEDGER = ("serving_decision", "serving_reward")
DROP_LEDGER = "DROP TABLE serving_decision; DROP TABLE serving_reward;"


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(CREATE_LEDGER, DROP_LEDGER)],
            state_operations=[
                migrations.CreateModel(
                    name='Decision',
                    fields=[
                        ('pk', models.CompositePrimaryKey('decided_at', 'id', blank=True, editable=False, primary_key=True, serialize=False)),
                        ('id', models.UUIDField()),
                        ('decided_at', models.DateTimeField()),
                        ('experiment_id', models.BigIntegerField()),
                        ('arm_id', models.BigIntegerField()),
                        ('propensities', django.contrib.postgres.fields.ArrayField(base_field=models.FloatField(), size=None)),
                        ('propensity', models.FloatField()),
                        ('policy_version', models.BigIntegerField()),
                        ('unit', models.CharField(max_length=256, null=True)),
                        ('context', models.JSONField(null=True)),
                        ('request_id', models.CharField(max_length=256, null=True)),
                        ('latency_ms', models.FloatField()),
                        ('fallback_reason', models.CharField(max_length=64, null=True)),
                    ],
                    options={
                        'indexes': [models.Index(fields=['experiment_id', 'decided_at'], name='decision_by_experiment'), models.Index(fields=['experiment_id', 'unit', 'decided_at'], name='decision_by_unit')],
                    },
                ),
                migrations.CreateModel(
                    name='Reward',
                    fields=[
                        ('pk', models.CompositePrimaryKey('decided_at', 'decision_id', 'metric', blank=True, editable=False, primary_key=True, serialize=False)),
                        ('decision_id', models.UUIDField()),
                        ('decided_at', models.DateTimeField()),
                        ('metric', models.CharField(max_length=63)),
                        ('experiment_id', models.BigIntegerField()),
                        ('arm_id', models.BigIntegerField()),
                        ('value', models.FloatField()),
                        ('occurred_at', models.DateTimeField(null=True)),
                        ('recorded_at', models.DateTimeField()),
                        ('late', models.BooleanField(default=False)),
                        ('defaulted', models.BooleanField(default=False)),
                        ('late_value', models.FloatField(null=True)),
                        ('folded', models.BooleanField(default=False)),
                        ('matured', models.BooleanField(default=False)),
                    ],
                    options={
                        'indexes': [models.Index(condition=models.Q(('folded', False), ('late', False)), fields=['experiment_id'], name='reward_to_fold'), models.Index(fields=['experiment_id', 'metric', 'decided_at'], name='reward_by_experiment')],
                    },
                ),
            ],
        ),
        migrations.CreateModel(
            name='QuarantinedEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('stream', models.CharField(max_length=128)),
                ('entry_id', models.CharField(max_length=64)),
                ('problem', models.TextField()),
                ('body', models.BinaryField()),
            ],
            options={
                'ordering': ('-id',),
                'constraints': [models.UniqueConstraint(fields=('stream', 'entry_id'), name='quarantined_event_unique')],
            },
        ),
        migrations.RunPython(make_first_partitions, migrations.RunPython.noop),
    ]
