from django.db import migrations, models

# The default is kept beside the table: no row is rewritten. Workers of the version before name the
# columns that they write, and leave these to it.
ADD_CACHED = "ALTER TABLE serving_decision ADD COLUMN cached boolean NOT NULL DEFAULT false"
ADD_CHAMPION_CACHED = "ALTER TABLE serving_shadowprediction ADD COLUMN champion_cached boolean NOT NULL DEFAULT false"


class Migration(migrations.Migration):
    """Which answers were kept from an earlier call."""

    dependencies = [
        ("serving", "0011_edge_decisions"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(ADD_CACHED, "ALTER TABLE serving_decision DROP COLUMN cached"),
                migrations.RunSQL(
                    ADD_CHAMPION_CACHED, "ALTER TABLE serving_shadowprediction DROP COLUMN champion_cached"
                ),
            ],
            state_operations=[
                migrations.AddField(
                    model_name="decision",
                    name="cached",
                    field=models.BooleanField(db_default=False, default=False),
                ),
                migrations.AddField(
                    model_name="shadowprediction",
                    name="champion_cached",
                    field=models.BooleanField(db_default=False, default=False),
                ),
            ],
        ),
    ]
