

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('experiments', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='ArmStatistics',
            fields=[
                ('arm', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='statistics', serialize=False, to='experiments.arm')),
                ('decisions', models.PositiveBigIntegerField(default=0)),
                ('failures', models.PositiveBigIntegerField(default=0, help_text='Decisions that the arm could not serve.')),
                ('expected_decisions', models.FloatField(default=0.0)),
                ('rewards', models.PositiveBigIntegerField(default=0)),
                ('mean', models.FloatField(default=0.0)),
                ('m2', models.FloatField(default=0.0, help_text='Sum of squared deviations from the mean.')),
                ('latencies', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), default=list, size=None)),
            ],
            options={
                'verbose_name_plural': 'arm statistics',
            },
        ),
        migrations.CreateModel(
            name='ExperimentEvidence',
            fields=[
                ('experiment', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='evidence', serialize=False, to='experiments.experiment')),
                ('closed_until', models.DateTimeField(null=True)),
                ('matured', models.PositiveBigIntegerField(default=0)),
                ('state', models.JSONField(default=dict, help_text='bandits.inference.anytime.Evidence.to_dict()')),
            ],
            options={
                'verbose_name_plural': 'experiment evidence',
            },
        ),
        migrations.CreateModel(
            name='ArmInterval',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('start', models.DateTimeField()),
                ('decisions', models.PositiveBigIntegerField(default=0)),
                ('rewards', models.PositiveBigIntegerField(default=0)),
                ('reward_total', models.FloatField(default=0.0)),
                ('arm', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='intervals', to='experiments.arm')),
            ],
            options={
                'ordering': ('start',),
                'constraints': [models.UniqueConstraint(fields=('arm', 'start'), name='arm_interval_unique')],
            },
        ),
    ]
