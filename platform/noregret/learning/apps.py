from django.apps import AppConfig


class LearningConfig(AppConfig):
    name = "noregret.learning"
    label = "learning"
