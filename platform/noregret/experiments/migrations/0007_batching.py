from django.db import migrations, models


class Migration(migrations.Migration):
    """How an endpoint's requests are computed together."""

    dependencies = [
        ("experiments", "0006_prediction_cache"),
    ]

    operations = [
        migrations.AddField(
            model_name="endpoint",
            name="batch",
            field=models.JSONField(blank=True, null=True),
        ),
    ]
