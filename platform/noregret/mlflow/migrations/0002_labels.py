"""Names of columns on pages; no column changes."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('mlflow', '0001_initial'),
    ]

    operations = [
        migrations.AlterField(
            model_name='importedversion',
            name='mlflow_name',
            field=models.CharField(max_length=255, verbose_name='MLflow name'),
        ),
        migrations.AlterField(
            model_name='importedversion',
            name='mlflow_version',
            field=models.CharField(max_length=32, verbose_name='MLflow version'),
        ),
        migrations.AlterField(
            model_name='importedversion',
            name='run_id',
            field=models.CharField(blank=True, default='', max_length=64, verbose_name='run ID'),
        ),
        migrations.AlterField(
            model_name='importedversion',
            name='url',
            field=models.CharField(blank=True, default='', max_length=2000, verbose_name='URL'),
        ),
    ]
