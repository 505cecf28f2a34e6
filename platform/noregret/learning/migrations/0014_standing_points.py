import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """How experiments stood over time. A table of its own: what runs beside it does not know it."""

    dependencies = [
        ('experiments', '0001_initial'),
        ('learning', '0013_rebuild_parts'),
    ]

    operations = [
        migrations.CreateModel(
            name='StandingPoint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('matured', models.PositiveBigIntegerField()),
                ('shares', models.JSONField(default=dict, help_text='By the name of an arm.')),
                ('evidence', models.JSONField(default=dict, help_text='By the name of an arm.')),
                (
                    'experiment',
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name='standing', to='experiments.experiment'
                    ),
                ),
            ],
            options={
                'constraints': [
                    models.UniqueConstraint(fields=('experiment', 'at'), name='standing_point_unique')
                ],
            },
        ),
    ]
