"""The settings of a process that is the data plane alone, and starts for a request: a function.

As all others, but for what a start would load and no request needs, and for what a function can't
have: a disk that outlives it, threads that run between requests.
"""

from noregret.settings import *  # noqa: F403
from noregret.settings import ENVIRONMENT

INSTALLED_APPS = ["serving", "noregret.serverless"]
MIDDLEWARE = []

# The disk goes with the function: what is kept there alone would be promised and lost.
SPOOL_LIMIT = 0
# How old a snapshot may be at a request: nobody refreshes it between two.
REFRESH_SECONDS = max(5.0, ENVIRONMENT.refresh_seconds)
