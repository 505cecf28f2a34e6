from django.db import migrations, models


class Migration(migrations.Migration):
    """Whether decisions of devices that excluded arms count. The database has a default: the version before writes rows without it."""

    dependencies = [
        ("experiments", "0007_batching"),
    ]

    operations = [
        migrations.AddField(
            model_name="experiment",
            name="edge_exclusions",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
