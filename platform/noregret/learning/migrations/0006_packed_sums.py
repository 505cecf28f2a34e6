import json
from typing import Any

from django.db import migrations
from noregret.learning.packed import PackedField, unpack

_COLUMNS = ("state", "answers", "split", "learned")
# The text of the JSON as it is: such rows are read, and packed when they are next written. A worker of the version before that writes
# beside this one is refused by the columns' type, and its transaction undone: added to the old columns, what it learned would be lost.
_TO_BYTES = "ALTER TABLE learning_experimentevidence " + ", ".join(
    f"ALTER COLUMN {column} DROP DEFAULT, "
    f"ALTER COLUMN {column} TYPE bytea USING convert_to({column}::text, 'UTF8'), "
    f"ALTER COLUMN {column} SET DEFAULT '\\x7b7d'::bytea"
    for column in _COLUMNS
)
_TO_JSON = "ALTER TABLE learning_experimentevidence " + ", ".join(
    f"ALTER COLUMN {column} DROP DEFAULT, "
    f"ALTER COLUMN {column} TYPE jsonb USING convert_from({column}, 'UTF8')::jsonb, "
    f"ALTER COLUMN {column} SET DEFAULT '{{}}'::jsonb"
    for column in _COLUMNS
)


def _write_json(apps: Any, schema_editor: Any) -> None:
    """Every row as JSON again, one at a time: a row may be a megabyte."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT experiment_id FROM learning_experimentevidence")
        for (experiment,) in cursor.fetchall():
            cursor.execute(
                "SELECT state, answers, split, learned FROM learning_experimentevidence WHERE experiment_id = %s",
                [experiment],
            )
            documents = [json.dumps(unpack(bytes(body))).encode() for body in cursor.fetchone()]
            cursor.execute(
                "UPDATE learning_experimentevidence SET state = %s, answers = %s, split = %s, learned = %s "
                "WHERE experiment_id = %s",
                [*documents, experiment],
            )


class Migration(migrations.Migration):
    """Evidence as bytes: what a hundred arms' evidence takes is written with each bucket."""

    dependencies = [
        ("learning", "0005_lease"),
    ]

    operations = [
        migrations.RunSQL(
            _TO_BYTES,
            _TO_JSON,
            state_operations=[
                migrations.AlterField(
                    "experimentevidence",
                    "state",
                    PackedField(default=dict, help_text="bandits.inference.evidence.Evidence.to_dict()"),
                ),
                migrations.AlterField(
                    "experimentevidence",
                    "answers",
                    PackedField(
                        default=dict,
                        help_text="The same of how often arms are answered, where silence means nothing.",
                    ),
                ),
                migrations.AlterField(
                    "experimentevidence",
                    "split",
                    PackedField(
                        default=dict, help_text="bandits.inference.sample_ratio.SampleRatio.to_dict(), of all trials."
                    ),
                ),
                migrations.AlterField(
                    "experimentevidence",
                    "learned",
                    PackedField(default=dict, help_text="By the policy's family: sums, or Gaussians."),
                ),
            ],
        ),
        migrations.RunPython(migrations.RunPython.noop, _write_json),
    ]
