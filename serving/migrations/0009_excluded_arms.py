import django.contrib.postgres.fields
from django.db import migrations, models

# Without a default no row is rewritten. Workers of the version before name the columns that they copy, and leave this one empty.
ADD_EXCLUDED = "ALTER TABLE serving_decision ADD COLUMN excluded bigint[]"


class Migration(migrations.Migration):
    """Which arms a request was not for."""

    dependencies = [
        ("serving", "0008_marks_of_sums"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(ADD_EXCLUDED, "ALTER TABLE serving_decision DROP COLUMN excluded")],
            state_operations=[
                migrations.AddField(
                    model_name="decision",
                    name="excluded",
                    field=django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), null=True, size=None
                    ),
                ),
            ],
        ),
    ]
