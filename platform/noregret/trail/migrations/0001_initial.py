"""The audit trail has an app of its own: its table keeps its name, its rows and its indexes.

Who may see the trail may go on to see it. Permissions are copied, not moved: an old version that still
runs beside this one asks for those of `access`. Once none does, `remove_stale_contenttypes` removes them.
"""

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def _copy(apps: Apps, database: str, source: str, target: str) -> None:
    """Whoever holds a permission on `source`'s audit entries holds the same one on `target`'s."""
    content_types = apps.get_model("contenttypes", "ContentType").objects.using(database)
    permissions = apps.get_model("auth", "Permission").objects.using(database)
    group_permissions = apps.get_model("auth", "Group").permissions.through.objects.using(database)
    user_permissions = apps.get_model("auth", "User").user_permissions.through.objects.using(database)
    before = content_types.filter(app_label=source, model="auditentry").first()
    if before is None:  # a new database: content types are made after the migrations
        return
    after, _ = content_types.get_or_create(app_label=target, model="auditentry")
    for old in permissions.filter(content_type=before):
        new, _ = permissions.get_or_create(content_type=after, codename=old.codename, defaults={"name": old.name})
        group_permissions.bulk_create(
            [
                group_permissions.model(group_id=group, permission_id=new.pk)
                for group in group_permissions.filter(permission_id=old.pk).values_list("group_id", flat=True)
            ],
            ignore_conflicts=True,
        )
        user_permissions.bulk_create(
            [
                user_permissions.model(user_id=user, permission_id=new.pk)
                for user in user_permissions.filter(permission_id=old.pk).values_list("user_id", flat=True)
            ],
            ignore_conflicts=True,
        )


def copy_permissions(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    _copy(apps, schema_editor.connection.alias, "access", "trail")


def copy_permissions_back(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    _copy(apps, schema_editor.connection.alias, "trail", "access")


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("access", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="AuditEntry",
                    fields=[
                        (
                            "id",
                            models.BigAutoField(
                                auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                            ),
                        ),
                        ("at", models.DateTimeField(auto_now_add=True)),
                        (
                            "actor",
                            models.CharField(
                                help_text="A user, `key:NAME`, or the part of the platform that acted.",
                                max_length=150,
                            ),
                        ),
                        (
                            "action",
                            models.CharField(
                                help_text="Noun and past participle, as `experiment.started`.", max_length=64
                            ),
                        ),
                        ("endpoint", models.CharField(blank=True, default="", max_length=63)),
                        ("experiment", models.CharField(blank=True, default="", max_length=63)),
                        ("model", models.CharField(blank=True, default="", max_length=127)),
                        ("reason", models.TextField(blank=True, default="")),
                        ("details", models.JSONField(blank=True, default=dict)),
                    ],
                    options={
                        "verbose_name_plural": "audit entries",
                        "db_table": "access_auditentry",
                        "ordering": ("-id",),
                        "indexes": [
                            models.Index(fields=["experiment", "-id"], name="access_audi_experim_f4eda5_idx"),
                            models.Index(fields=["endpoint", "-id"], name="access_audi_endpoin_00887d_idx"),
                        ],
                    },
                ),
            ],
        ),
        migrations.RunPython(copy_permissions, copy_permissions_back),
    ]
