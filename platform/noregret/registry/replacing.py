"""A file of a storage of Django takes the place of what is there: whoever reads finds the one or
the other, and where that fails nothing has changed.

`Storage.save` looks for a name that is free, unless a storage is told to overwrite. Deleting first
would lose what is there whenever the saving fails after it.
"""

import os
import posixpath
import secrets
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage

_OVERWRITES: dict[str, Any] = {"file_overwrite": True, "overwrite_files": True, "write_mode": "overwrite"}
"""What the storages of django-storages for Amazon and Google, for Azure and for Dropbox call it. An
object store's put replaces an object at once, or not at all."""


def let_overwrite(storage: Storage) -> None:
    """Tell a storage to, where it can be told."""
    for name, value in _OVERWRITES.items():
        if hasattr(storage, name):
            setattr(storage, name, value)


def replace(storage: Storage, name: str, body: bytes) -> None:
    """Raises what the storage raises."""
    if isinstance(storage, FileSystemStorage):
        _replace_file(storage, name, body)
        return
    if storage.get_available_name(name) != name:
        # It has no means to replace: for a moment there is none, and a failure loses what was
        # there. Files by their hash come here only where what is there is of no use to anybody.
        storage.delete(name)
    storage.save(name, ContentFile(body))


def _replace_file(storage: FileSystemStorage, name: str, body: bytes) -> None:
    """Written beside, and renamed once it is on the disk."""
    folder, last = posixpath.split(name)
    beside = posixpath.join(folder, f".{last}.{secrets.token_hex(4)}")
    try:
        storage.save(beside, ContentFile(body))
        with open(storage.path(beside), "rb") as file:
            os.fsync(file.fileno())
        os.replace(storage.path(beside), storage.path(name))
    except BaseException:
        storage.delete(beside)
        raise
