"""The engine that settings name. Django makes its connections by the driver's `connect`; here they
are `serving.bounded_connection`'s.
"""

from types import ModuleType

import psycopg
from django.db.backends.postgresql import base

from serving.bounded_connection import BoundedConnection

_driver = ModuleType("psycopg")
vars(_driver).update(vars(psycopg))
vars(_driver)["connect"] = BoundedConnection.connect


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own but for the driver."""

    Database = _driver
