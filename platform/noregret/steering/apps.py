from django.apps import AppConfig


class SteeringConfig(AppConfig):
    name = "noregret.steering"
    label = "steering"
