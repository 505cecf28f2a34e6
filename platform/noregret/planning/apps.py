from django.apps import AppConfig


class PlanningConfig(AppConfig):
    name = "noregret.planning"
    label = "planning"
