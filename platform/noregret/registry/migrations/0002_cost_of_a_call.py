from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='modelversion',
            name='call_seconds',
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='modelversion',
            name='row_seconds',
            field=models.FloatField(blank=True, null=True),
        ),
    ]
