"""Settings, one file a subject. They never differ by environment: the environment only supplies
values (env.py)."""

from .admin import *  # noqa: F403
from .core import *  # noqa: F403
from .database import *  # noqa: F403
from .learning import *  # noqa: F403
from .logging import *  # noqa: F403
from .notify import *  # noqa: F403
from .rest import *  # noqa: F403
from .serving import *  # noqa: F403
from .web import *  # noqa: F403
