"""The roles viewer, operator and administrator, as groups with permissions.

Rows alone: an older version that still runs beside this one takes no notice. A group of such a name
that is there already is somebody's own and stays as it is. Going back removes a group that is as it
was made and that nobody is in; any other stays, for people rely on it.
"""

from django.db import migrations

_VIEWED = [
    ("experiments", "experiment"),
    ("experiments", "endpoint"),
    ("experiments", "championchange"),
    ("registry", "modelversion"),
    ("mlflow", "importedversion"),
    ("trail", "auditentry"),
]
_OPERATED = [("experiments", "experiment"), ("experiments", "endpoint"), ("registry", "modelversion")]
_VIEWER = [(label, model, "view") for label, model in _VIEWED]
_OPERATOR = [
    *_VIEWER,
    *((label, model, action) for label, model in _OPERATED for action in ("add", "change")),
    ("serving", "quarantinedevent", "view"),
    ("serving", "quarantinedevent", "change"),
    ("notify", "delivery", "view"),
    ("notify", "webhook", "view"),
]
_ADMINISTRATOR = [
    *_OPERATOR,
    *(("access", "apikey", action) for action in ("view", "add", "change")),
    *(("auth", "user", action) for action in ("view", "add", "change", "delete")),
    ("auth", "group", "view"),
]
ROLES = {"viewer": _VIEWER, "operator": _OPERATOR, "administrator": _ADMINISTRATOR}


def make_roles(apps, schema_editor):
    groups = apps.get_model("auth", "Group")
    for name, wanted in ROLES.items():
        group, is_new = groups.objects.get_or_create(name=name)
        if is_new:
            group.permissions.set([_permission(apps, *each) for each in wanted])


def remove_roles(apps, schema_editor):
    groups = apps.get_model("auth", "Group")
    for name, wanted in ROLES.items():
        group = groups.objects.filter(name=name, user__isnull=True).first()
        if group is not None:
            found = group.permissions.values_list("content_type__app_label", "content_type__model", "codename")
            if set(found) == {(label, model, f"{action}_{model}") for label, model, action in wanted}:
                group.delete()


def _permission(apps, label, model, action):
    """Django makes permissions after the last migration, and keeps those that are there by then."""
    kind, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(app_label=label, model=model)
    named = apps.get_model(label, model)._meta.verbose_name_raw
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=kind, codename=f"{action}_{model}", defaults={"name": f"Can {action} {named}"}
    )
    return permission


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0002_audit_trail_moved"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("experiments", "0001_initial"),
        ("mlflow", "0001_initial"),
        ("notify", "0001_initial"),
        ("registry", "0001_initial"),
        ("serving", "0001_initial"),
        ("trail", "0001_initial"),
    ]

    operations = [migrations.RunPython(make_roles, remove_roles)]
