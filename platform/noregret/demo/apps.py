from django.apps import AppConfig


class DemoConfig(AppConfig):
    name = "noregret.demo"
    label = "demo"
