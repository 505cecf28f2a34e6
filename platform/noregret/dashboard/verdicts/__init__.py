"""What an experiment has come to, as a sentence with numbers and a date."""

from .setting import Setting, setting_of
from .verdict import Verdict, verdict

__all__ = ["Setting", "Verdict", "setting_of", "verdict"]
