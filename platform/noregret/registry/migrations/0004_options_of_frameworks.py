"""What frameworks keep of their definitions; and the lists of frameworks and runtimes are the program's, not the table's.

The new column has a default in the database: an earlier version of the program, still running, inserts rows without it.
"""

import noregret.registry.frameworks
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("registry", "0003_endpoints")]

    operations = [
        migrations.AddField(
            model_name="modelversion",
            name="options",
            field=models.JSONField(blank=True, db_default=models.Value({}, models.JSONField()), default=dict),
        ),
        migrations.AlterField(
            model_name="modelversion",
            name="framework",
            field=models.CharField(choices=noregret.registry.frameworks.framework_choices, max_length=16),
        ),
        migrations.AlterField(
            model_name="modelversion",
            name="runtime",
            field=models.CharField(choices=noregret.registry.frameworks.runtime_choices, max_length=16),
        ),
    ]
