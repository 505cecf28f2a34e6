"""Addresses of the hot path."""

from django.urls import path

from .api import native

urlpatterns = [
    path("api/v1/endpoints/<str:endpoint>/predict", native.predict, name="predict"),
    path("api/v1/endpoints/<str:endpoint>/decide", native.decide_view, name="decide"),
    path("api/v1/feedback", native.feedback, name="feedback"),
]
