

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='ModelVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=63, validators=[django.core.validators.RegexValidator('\\A[a-z0-9][a-z0-9._-]{0,62}\\Z', "must start with a lower-case letter or digit and hold at most 63 of a-z, 0-9, '.', '_' and '-'")])),
                ('version', models.CharField(max_length=63, validators=[django.core.validators.RegexValidator('\\A[a-z0-9][a-z0-9._-]{0,62}\\Z', "must start with a lower-case letter or digit and hold at most 63 of a-z, 0-9, '.', '_' and '-'")])),
                ('framework', models.CharField(choices=[('sklearn', 'scikit-learn'), ('python', 'Python callable'), ('static', 'Static payload')], max_length=16)),
                ('runtime', models.CharField(choices=[('onnx', 'ONNX Runtime'), ('sklearn', 'scikit-learn'), ('python', 'Python callable'), ('static', 'Static payload')], max_length=16)),
                ('sha256', models.CharField(blank=True, default='', max_length=64, verbose_name='SHA-256')),
                ('size', models.PositiveBigIntegerField(default=0, verbose_name='size in bytes')),
                ('compiled_sha256', models.CharField(blank=True, default='', max_length=64, verbose_name='SHA-256 as compiled')),
                ('compile_note', models.TextField(blank=True, default='')),
                ('callable', models.CharField(blank=True, default='', max_length=255)),
                ('payload', models.JSONField(blank=True, null=True)),
                ('signature', models.JSONField(default=dict)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('created_by', models.CharField(blank=True, default='', max_length=150)),
            ],
            options={
                'ordering': ('-id',),
                'constraints': [models.UniqueConstraint(fields=('name', 'version'), name='model_version_unique')],
            },
        ),
    ]
