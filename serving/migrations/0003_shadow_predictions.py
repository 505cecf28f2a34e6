from datetime import UTC, datetime, timedelta

from django.db import migrations, models

from serving.ledger import partitions

# Partitioned as the ledger is (0001).
CREATE = """
CREATE TABLE serving_shadowprediction (
    decision_id uuid NOT NULL,
    decided_at timestamptz NOT NULL,
    experiment_id bigint NOT NULL,
    arm_id bigint NOT NULL,
    latency_ms double precision NOT NULL,
    champion_latency_ms double precision NOT NULL,
    error varchar(64),
    agrees boolean,
    difference double precision,
    predicted jsonb,
    champion_predicted jsonb NOT NULL,
    PRIMARY KEY (decided_at, decision_id, arm_id)
) PARTITION BY RANGE (decided_at);
CREATE TABLE serving_shadowprediction_default PARTITION OF serving_shadowprediction DEFAULT;
CREATE INDEX shadow_by_arm ON serving_shadowprediction (experiment_id, arm_id, decided_at);
"""
TABLES = ("serving_shadowprediction",)


def make_first_partitions(apps, schema_editor):
    today = datetime.now(tz=UTC).date()
    with schema_editor.connection.cursor() as cursor:
        partitions.ensure(cursor, today - timedelta(days=1), today + timedelta(days=7), TABLES)


class Migration(migrations.Migration):

    dependencies = [
        ('serving', '0002_holdout_and_apprentice'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(CREATE, "DROP TABLE serving_shadowprediction")],
            state_operations=[
                migrations.CreateModel(
                    name='ShadowPrediction',
                    fields=[
                        ('pk', models.CompositePrimaryKey('decided_at', 'decision_id', 'arm_id', blank=True, editable=False, primary_key=True, serialize=False)),
                        ('decision_id', models.UUIDField()),
                        ('decided_at', models.DateTimeField()),
                        ('experiment_id', models.BigIntegerField()),
                        ('arm_id', models.BigIntegerField()),
                        ('latency_ms', models.FloatField()),
                        ('champion_latency_ms', models.FloatField()),
                        ('error', models.CharField(max_length=64, null=True)),
                        ('agrees', models.BooleanField(null=True)),
                        ('difference', models.FloatField(null=True)),
                        ('predicted', models.JSONField(null=True)),
                        ('champion_predicted', models.JSONField()),
                    ],
                    options={
                        'indexes': [models.Index(fields=['experiment_id', 'arm_id', 'decided_at'], name='shadow_by_arm')],
                    },
                ),
            ],
        ),
        migrations.RunPython(make_first_partitions, migrations.RunPython.noop),
    ]
