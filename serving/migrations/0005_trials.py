from django.db import migrations, models

# Not NOT NULL: workers of the version before copy rows into a table that is like this one, without the column. The default fills it here.
ADD_TRIAL = "ALTER TABLE serving_decision ADD COLUMN trial boolean DEFAULT true"

# A row a unit, not by day: it is asked for by unit alone. Its rows go with their experiment.
CREATE = """
CREATE TABLE serving_firstvisit (
    experiment_id bigint NOT NULL,
    unit varchar(256) NOT NULL,
    decision_id uuid NOT NULL,
    PRIMARY KEY (experiment_id, unit)
);
"""


class Migration(migrations.Migration):
    """Which decisions are independent trials is decided once, as they come in.

    Decisions that are in the ledger already are marked experiment by experiment, by the learner (noregret.learning.upgrade): one
    statement over all of a large ledger would hold up a running system.
    """

    dependencies = [
        ("serving", "0004_rewards_to_fold_by_decision_time"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(ADD_TRIAL, "ALTER TABLE serving_decision DROP COLUMN trial")],
            state_operations=[
                migrations.AddField(
                    model_name="decision",
                    name="trial",
                    field=models.BooleanField(db_default=True, default=True),
                ),
            ],
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(CREATE, "DROP TABLE serving_firstvisit")],
            state_operations=[
                migrations.CreateModel(
                    name="FirstVisit",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "experiment_id", "unit", blank=True, editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        ("experiment_id", models.BigIntegerField()),
                        ("unit", models.CharField(max_length=256)),
                        ("decision_id", models.UUIDField()),
                    ],
                ),
            ],
        ),
    ]
