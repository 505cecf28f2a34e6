"""Names of columns on pages; no column changes."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('notify', '0001_initial'),
    ]

    operations = [
        migrations.AlterField(
            model_name='webhook',
            name='url',
            field=models.URLField(max_length=2000, verbose_name='URL'),
        ),
    ]
