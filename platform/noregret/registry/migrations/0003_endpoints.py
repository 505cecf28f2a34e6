import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    """Null means that a key for every endpoint registered the version: of those that are there nobody knows it otherwise, and their users are keys whose endpoints use them."""

    dependencies = [
        ("registry", "0002_cost_of_a_call"),
    ]

    operations = [
        migrations.AddField(
            model_name="modelversion",
            name="endpoints",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=63),
                blank=True,
                help_text="Of the key that registered it; empty: every endpoint.",
                null=True,
                size=None,
            ),
        ),
    ]
