from django.apps import AppConfig


class RolloutConfig(AppConfig):
    name = "noregret.rollout"
    label = "rollout"
