"""Noregret's Django project: registers, configures, learns, promotes, shows."""

__version__ = "0.1.0"
