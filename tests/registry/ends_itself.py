"""An inspecting process that is killed from outside."""

import os
import signal

os.kill(os.getpid(), signal.SIGKILL)
