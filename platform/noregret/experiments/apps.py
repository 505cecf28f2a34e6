from django.apps import AppConfig


class ExperimentsConfig(AppConfig):
    name = "noregret.experiments"
    label = "experiments"
