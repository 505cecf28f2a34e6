"""When a key was last used. An older version that runs beside this one writes rows without it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("access", "0003_roles")]

    operations = [
        migrations.AddField(
            model_name="apikey", name="last_used_at", field=models.DateTimeField(null=True, blank=True)
        ),
    ]
