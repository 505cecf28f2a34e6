

import django.contrib.postgres.fields
import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.RunSQL(
            "CREATE SEQUENCE access_snapshot_version AS bigint;", "DROP SEQUENCE access_snapshot_version;"
        ),
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=63, validators=[django.core.validators.RegexValidator('\\A[a-z0-9][a-z0-9._-]{0,62}\\Z', "must start with a lower-case letter or digit and hold at most 63 of a-z, 0-9, '.', '_' and '-'")])),
                ('prefix', models.CharField(help_text="The key's first characters, to recognise it by.", max_length=16)),
                ('digest', models.CharField(max_length=64, unique=True)),
                ('scopes', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=16), size=None)),
                ('endpoints', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=63), blank=True, help_text='Empty: every endpoint.', null=True, size=None)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('created_by', models.CharField(blank=True, default='', max_length=150)),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'API key',
                'ordering': ('-id',),
            },
        ),
        migrations.CreateModel(
            name='AuditEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('actor', models.CharField(help_text='A user, `key:NAME`, or the part of the platform that acted.', max_length=150)),
                ('action', models.CharField(help_text='Noun and past participle, as `experiment.started`.', max_length=64)),
                ('endpoint', models.CharField(blank=True, default='', max_length=63)),
                ('experiment', models.CharField(blank=True, default='', max_length=63)),
                ('model', models.CharField(blank=True, default='', max_length=127)),
                ('reason', models.TextField(blank=True, default='')),
                ('details', models.JSONField(blank=True, default=dict)),
            ],
            options={
                'verbose_name_plural': 'audit entries',
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['experiment', '-id'], name='access_audi_experim_f4eda5_idx'), models.Index(fields=['endpoint', '-id'], name='access_audi_endpoin_00887d_idx')],
            },
        ),
    ]
