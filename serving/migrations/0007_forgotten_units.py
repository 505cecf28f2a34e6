from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('serving', '0006_ledger_horizon'),
    ]

    operations = [
        migrations.CreateModel(
            name='ForgottenUnit',
            fields=[
                ('digest', models.BinaryField(primary_key=True, serialize=False)),
                ('forgotten_at', models.DateTimeField()),
            ],
        ),
    ]
