from django.db import migrations, models

# Rewards that wait until their bucket is closed may be millions: which of them may be folded is read by decision time.
REPLACE = """
DROP INDEX reward_to_fold;
CREATE INDEX reward_to_fold ON serving_reward (experiment_id, decided_at) WHERE NOT folded AND NOT late;
"""
BACK = """
DROP INDEX reward_to_fold;
CREATE INDEX reward_to_fold ON serving_reward (experiment_id) WHERE NOT folded AND NOT late;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('serving', '0003_shadow_predictions'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(REPLACE, BACK)],
            state_operations=[
                migrations.RemoveIndex(model_name='reward', name='reward_to_fold'),
                migrations.AddIndex(
                    model_name='reward',
                    index=models.Index(
                        condition=models.Q(('folded', False), ('late', False)),
                        fields=['experiment_id', 'decided_at'],
                        name='reward_to_fold',
                    ),
                ),
            ],
        ),
    ]
