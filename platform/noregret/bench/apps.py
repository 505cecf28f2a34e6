from django.apps import AppConfig


class BenchConfig(AppConfig):
    name = "noregret.bench"
    label = "bench"
