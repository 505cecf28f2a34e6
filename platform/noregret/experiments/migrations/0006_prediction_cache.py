from django.db import migrations, models


class Migration(migrations.Migration):
    """What web processes keep of an endpoint's answers."""

    dependencies = [
        ("experiments", "0005_edge_evidence"),
    ]

    operations = [
        migrations.AddField(
            model_name="endpoint",
            name="cache",
            field=models.JSONField(blank=True, null=True),
        ),
    ]
