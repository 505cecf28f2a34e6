from django.db import migrations, models


class Migration(migrations.Migration):
    """Decisions of which nothing is learned until they are activated. A table of its own: the version before reads none of it."""

    dependencies = [
        ("serving", "0009_excluded_arms"),
    ]

    operations = [
        migrations.AddField(
            model_name="decision",
            name="activated_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.CreateModel(
            name="WaitingDecision",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("experiment_id", models.BigIntegerField()),
                ("open_until", models.DateTimeField()),
                ("event", models.BinaryField(null=True)),
                ("endpoint_id", models.BigIntegerField(null=True)),
                ("unit", models.CharField(max_length=256, null=True)),
                ("activated_at", models.DateTimeField(null=True)),
                ("taken", models.BooleanField(db_default=False, default=False)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["experiment_id", "id"], name="waiting_by_experiment"),
                    models.Index(
                        condition=models.Q(("activated_at__isnull", False), ("event__isnull", False), ("taken", False)),
                        fields=["endpoint_id"],
                        name="waiting_to_take",
                    ),
                    models.Index(fields=["open_until"], name="waiting_by_end"),
                ],
            },
        ),
    ]
