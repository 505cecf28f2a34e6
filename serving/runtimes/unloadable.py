"""Stands for a model that this version of the program can't load: a newer one published it, or its
description is damaged.

The rest of the snapshot serves all the same: a challenger that can't be loaded is the champion's to
answer for.
"""

from typing import ClassVar

from .protocol import Kept, Model, Resources
from .runtime import ModelError, Runtime


class UnloadableModel(Model, frozen=True, kw_only=True, tag="unloadable"):
    kept: ClassVar[Kept] = "never"

    problem: str

    def load(self, resources: Resources) -> Runtime:
        raise ModelError(self.problem)
