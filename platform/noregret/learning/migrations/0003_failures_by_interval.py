"""How many decisions of an interval the arm could not serve: guardrails compare arms within intervals."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("learning", "0002_memories_models_and_delays")]

    operations = [
        migrations.AddField(
            model_name="arminterval",
            name="failures",
            field=models.PositiveBigIntegerField(
                db_default=0, default=0, help_text="Decisions that the arm could not serve."
            ),
        ),
    ]
