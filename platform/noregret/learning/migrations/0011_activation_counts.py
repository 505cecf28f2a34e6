from django.db import migrations, models


class Migration(migrations.Migration):
    """How many decisions waited to be activated, and how many were."""

    dependencies = [
        ("learning", "0010_baselines"),
    ]

    operations = [
        migrations.CreateModel(
            name="ActivationCount",
            fields=[
                ("experiment_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("waited", models.PositiveBigIntegerField(default=0)),
                ("activated", models.PositiveBigIntegerField(default=0)),
            ],
        ),
    ]
