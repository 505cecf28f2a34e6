from django.db import migrations, models


class Migration(migrations.Migration):
    """How many decisions were answered by what was kept of an earlier call."""

    dependencies = [
        ('learning', '0011_activation_counts'),
    ]

    operations = [
        migrations.AddField(
            model_name='armstatistics',
            name='cached',
            field=models.PositiveBigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='baselineinterval',
            name='cached',
            field=models.PositiveBigIntegerField(db_default=0, default=0),
        ),
    ]
