import django.db.models.deletion
from django.db import migrations, models


# Nothing reads the column, but workers of the version before still write it while this one starts: it stays, with a default, and goes
# with a later version.
KEEP = "ALTER TABLE learning_armstatistics ALTER COLUMN expected_decisions SET DEFAULT 0"
BACK = "ALTER TABLE learning_armstatistics ALTER COLUMN expected_decisions DROP DEFAULT"


class Migration(migrations.Migration):

    dependencies = [
        ('experiments', '0003_rollouts'),
        ('learning', '0006_packed_sums'),
    ]

    operations = [
        migrations.CreateModel(
            name='LedgerBase',
            fields=[
                ('experiment', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='base', serialize=False, to='experiments.experiment')),
                ('until', models.DateTimeField()),
                ('sums', models.JSONField(default=dict, help_text='A document by the name of each kept sum (noregret.learning.kept).')),
            ],
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(KEEP, BACK)],
            state_operations=[migrations.RemoveField(model_name='armstatistics', name='expected_decisions')],
        ),
        migrations.AddField(
            model_name='experimentevidence',
            name='folded_until',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='experimentevidence',
            name='noted_for',
            field=models.UUIDField(null=True),
        ),
        migrations.AddField(
            model_name='experimentevidence',
            name='noted_since',
            field=models.DateTimeField(null=True),
        ),
        migrations.CreateModel(
            name='Addition',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sum', models.CharField(max_length=32)),
                ('document', models.JSONField()),
                ('experiment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='experiments.experiment')),
            ],
        ),
    ]
