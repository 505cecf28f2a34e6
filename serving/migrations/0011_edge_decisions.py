from django.db import migrations, models

# Without a default no row is rewritten. Workers of the version before name the columns that they copy, and leave this one empty.
ADD_TIME = "ALTER TABLE serving_decision ADD COLUMN edge_decided_at timestamptz"


class Migration(migrations.Migration):
    """Decisions that were made on devices: when, and a table by the ids that devices gave them. The version before reads none of it."""

    dependencies = [
        ("serving", "0010_waiting_decisions"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(ADD_TIME, "ALTER TABLE serving_decision DROP COLUMN edge_decided_at")
            ],
            state_operations=[
                migrations.AddField(
                    model_name="decision",
                    name="edge_decided_at",
                    field=models.DateTimeField(null=True),
                ),
            ],
        ),
        migrations.CreateModel(
            name="EdgeDecision",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("endpoint_id", models.BigIntegerField()),
                ("experiment_id", models.BigIntegerField()),
                ("arm_id", models.BigIntegerField()),
                ("ledger_id", models.UUIDField()),
                ("decided_us", models.BigIntegerField()),
                ("learnable", models.BooleanField()),
                ("digest", models.BinaryField()),
                ("kept_until", models.DateTimeField()),
                ("event", models.BinaryField(null=True)),
                ("unit", models.CharField(max_length=256, null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("event__isnull", False)),
                        fields=["endpoint_id", "ledger_id"],
                        name="edge_decision_to_take",
                    ),
                    models.Index(fields=["kept_until"], name="edge_decision_by_end"),
                ],
            },
        ),
    ]
