from django.db import migrations, models


class Migration(migrations.Migration):
    """Columns with defaults in the database, so that workers of the version before go on writing rows while this one starts."""

    dependencies = [
        ("learning", "0003_failures_by_interval"),
    ]

    operations = [
        migrations.AlterField(
            model_name="experimentevidence",
            name="state",
            field=models.JSONField(default=dict, help_text="bandits.inference.evidence.Evidence.to_dict()"),
        ),
        migrations.AddField(
            model_name="experimentevidence",
            name="answers",
            field=models.JSONField(
                db_default={},
                default=dict,
                help_text="The same of how often arms are answered, where silence means nothing.",
            ),
        ),
        migrations.AddField(
            model_name="experimentevidence",
            name="split",
            field=models.JSONField(
                db_default={},
                default=dict,
                help_text="bandits.inference.sample_ratio.SampleRatio.to_dict(), of all trials.",
            ),
        ),
        migrations.AddField(
            model_name="experimentevidence",
            name="rules",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="experimentevidence",
            name="unpublished",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="experimentevidence",
            name="published_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="experimentevidence",
            name="published_decisions",
            field=models.PositiveBigIntegerField(db_default=0, default=0),
        ),
    ]
