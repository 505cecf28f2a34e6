from django.apps import AppConfig


class TrailConfig(AppConfig):
    name = "noregret.trail"
    label = "trail"
    verbose_name = "Audit trail"
