from django.db import migrations, models


class Migration(migrations.Migration):
    """How often a draft was changed. The database has a default: the version before writes rows without it."""

    dependencies = [
        ("experiments", "0008_edge_exclusions"),
    ]

    operations = [
        migrations.AddField(
            model_name="experiment",
            name="revision",
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
    ]
