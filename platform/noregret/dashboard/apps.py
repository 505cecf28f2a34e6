from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "noregret.dashboard"
    label = "dashboard"
