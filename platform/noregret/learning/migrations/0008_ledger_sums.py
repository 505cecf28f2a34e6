import django.db.models.deletion
from django.db import migrations, models


def unit_fields() -> list[tuple[str, models.Field]]:
    return [
        (
            "pk",
            models.CompositePrimaryKey(
                "experiment_id", "part", "unit", blank=True, editable=False, primary_key=True, serialize=False
            ),
        ),
        ("experiment_id", models.BigIntegerField()),
        ("part", models.BigIntegerField()),
        ("unit", models.CharField(max_length=256)),
        ("count", models.FloatField()),
        ("total", models.FloatField()),
        ("weight", models.FloatField()),
        ("weighted", models.FloatField()),
    ]


class Migration(migrations.Migration):
    """Sums over the ledger that results were read from it for at each look.

    Nothing is summed here: one statement over a large ledger would hold up a running system. The learner makes the sums experiment by
    experiment (noregret.learning.upgrade), and until then what is told from them is null.
    """

    dependencies = [
        ("experiments", "0003_rollouts"),
        ("learning", "0007_bases_and_additions"),
    ]

    operations = [
        migrations.CreateModel(
            name="LedgerSums",
            fields=[
                (
                    "experiment",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="ledger_sums",
                        serialize=False,
                        to="experiments.experiment",
                    ),
                ),
                ("state", models.JSONField(default=dict, help_text="noregret.learning.sums.Sums.to_dict()")),
                ("base", models.JSONField(default=dict, help_text="The same of days that the ledger no longer has.")),
                ("final", models.BooleanField(default=False)),
            ],
            options={"verbose_name_plural": "ledger sums"},
        ),
        migrations.CreateModel(
            name="UnitOutcomes",
            fields=unit_fields(),
            options={"verbose_name_plural": "outcomes of units"},
        ),
        migrations.CreateModel(name="UnitBase", fields=unit_fields()),
        # Rows of units are written anew each time that one is rewarded: room in the page keeps the index out of it.
        migrations.RunSQL("ALTER TABLE learning_unitoutcomes SET (fillfactor = 80)", migrations.RunSQL.noop),
    ]
