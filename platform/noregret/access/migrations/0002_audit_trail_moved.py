"""The audit trail belongs to `trail`. Its table stays as it is."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("access", "0001_initial"), ("trail", "0001_initial")]

    operations = [
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel(name="AuditEntry")]),
    ]
