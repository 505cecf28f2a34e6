from django.db import migrations, models

# Rewards that are in the ledger are counted by going through it once, piece by piece (learning.watched.watching), and not by claims:
# they are marked at once, by a default that new rows do not have. Neither statement rewrites a row. What an interruption left is gone on with.
ADD_SUMMED = """
ALTER TABLE serving_reward ADD COLUMN IF NOT EXISTS summed boolean NOT NULL DEFAULT true;
ALTER TABLE serving_reward ALTER COLUMN summed SET DEFAULT false;
"""
# Not NOT NULL, as `trial` (0005).
ADD_TIMELY = "ALTER TABLE serving_decision ADD COLUMN IF NOT EXISTS timely boolean DEFAULT true"

# (table, index, columns, condition)
INDEXES = (
    ("serving_reward", "reward_to_sum", "experiment_id, metric, decided_at", "NOT summed"),
    ("serving_shadowprediction", "shadow_disagreeing", "experiment_id, arm_id, decided_at", "NOT agrees"),
)
_PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass ORDER BY 1"


def add_indexes(apps, schema_editor):
    """A day after the other, while rows are written: an index of the whole table takes those that its partitions have already."""
    with schema_editor.connection.cursor() as cursor:
        for table, index, columns, condition in INDEXES:
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [index])
            if cursor.fetchone()[0]:
                continue  # the migration was interrupted after it
            cursor.execute(_PARTITIONS, [table])
            for (partition,) in cursor.fetchall():
                name = f"{partition}_{index}"
                # One that was left half made by an interruption is made again.
                cursor.execute(f"DROP INDEX IF EXISTS {name}")
                cursor.execute(f"CREATE INDEX CONCURRENTLY {name} ON {partition} ({columns}) WHERE {condition}")
            cursor.execute(f"CREATE INDEX {index} ON {table} ({columns}) WHERE {condition}")


def drop_indexes(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        for _, index, _, _ in INDEXES:
            cursor.execute(f"DROP INDEX IF EXISTS {index}")


class Migration(migrations.Migration):
    """Which rewards are in the sums of what watches their metric, and which decisions came in time to be compared."""

    atomic = False

    dependencies = [
        ("serving", "0007_forgotten_units"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(ADD_SUMMED, "ALTER TABLE serving_reward DROP COLUMN summed"),
                migrations.RunSQL(ADD_TIMELY, "ALTER TABLE serving_decision DROP COLUMN timely"),
                migrations.RunPython(add_indexes, drop_indexes),
            ],
            state_operations=[
                migrations.AddField(
                    model_name="reward",
                    name="summed",
                    field=models.BooleanField(db_default=False, default=False),
                ),
                migrations.AddField(
                    model_name="decision",
                    name="timely",
                    field=models.BooleanField(db_default=True, default=True),
                ),
                migrations.AddIndex(
                    model_name="reward",
                    index=models.Index(
                        condition=models.Q(("summed", False)),
                        fields=["experiment_id", "metric", "decided_at"],
                        name="reward_to_sum",
                    ),
                ),
                migrations.AddIndex(
                    model_name="shadowprediction",
                    index=models.Index(
                        condition=models.Q(("agrees", False)),
                        fields=["experiment_id", "arm_id", "decided_at"],
                        name="shadow_disagreeing",
                    ),
                ),
            ],
        ),
    ]
