from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('serving', '0005_trials'),
    ]

    operations = [
        migrations.CreateModel(
            name='LedgerHorizon',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('begins_at', models.DateTimeField(null=True)),
                ('rewritten', models.PositiveBigIntegerField(db_default=0, default=0)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('id', 1)), name='one_ledger_horizon')],
            },
        ),
    ]
