from django.db import migrations, models


class Migration(migrations.Migration):
    """Whether decisions of devices count. The database has a default: the version before writes rows without it."""

    dependencies = [
        ("experiments", "0004_baselines"),
    ]

    operations = [
        migrations.AddField(
            model_name="experiment",
            name="edge_evidence",
            field=models.BooleanField(db_default=True, default=True),
        ),
    ]
