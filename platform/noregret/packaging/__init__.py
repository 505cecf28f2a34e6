"""Exports an endpoint as a package: a wheel that answers as the service does, without it."""
