"""Why a storage did not do what it was asked, in words that hold no secret: the code of its own
answer where there is one, and what to look at where no retry helps."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from django.core.files.storage import Storage

from noregret.variables import ARTIFACT_STORAGE
from serving.artifacts import SourceFailed

NOTHING = "nothing-is-here"
"""A folder that is asked for and never made."""
_BUCKET = f"look at bucket_name in {ARTIFACT_STORAGE}"
_REGION = f"the bucket is in another region, look at region_name in {ARTIFACT_STORAGE}"
_CREDENTIALS = "look at the credentials that this process has"
_MAY_NOT = f"they need to read, write, list and delete, {_CREDENTIALS}"
_LASTING = {
    "NoSuchBucket": f"there is no such bucket, {_BUCKET}",
    "InvalidBucketName": f"no bucket can have this name, {_BUCKET}",
    "AllAccessDisabled": "the bucket is closed",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "InvalidAccessKeyId": f"the access key is not known, {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret key is another, {_CREDENTIALS}",
    "ExpiredToken": f"the session is over, {_CREDENTIALS}",
    "InvalidToken": f"the session is not known, {_CREDENTIALS}",
    "NoCredentialsError": f"there are none, {_CREDENTIALS}",
    "PartialCredentialsError": f"a part of them is missing, {_CREDENTIALS}",
    "AccessDenied": _MAY_NOT,
    "403": _MAY_NOT,
}
"""What S3 and its library say that stays so until somebody changes it."""


@contextmanager
def told(storage: Storage) -> Iterator[None]:
    """Whatever the storage's library raises is raised as SourceFailed, but for a file that is not
    there."""
    try:
        yield
    except (FileNotFoundError, SourceFailed):
        raise
    except Exception as error:
        raise SourceFailed(in_words(storage, error)) from error


def answers(storage: Storage, seconds: float) -> str | None:
    """Asks for what is not there. None where the storage answers, or what is wrong with it."""
    found: list[str | None] = []

    def ask() -> None:
        try:
            with told(storage):
                # A bucket says that it is no bucket only to who asks what is in it.
                (storage.listdir if hasattr(storage, "bucket_name") else storage.exists)(NOTHING)
        except SourceFailed as error:
            found.append(str(error))
        else:
            found.append(None)

    # A library waits as long as its own deadlines say: whoever asks here does not.
    asking = Thread(target=ask, name="asks the store", daemon=True)
    asking.start()
    asking.join(seconds)
    return found[0] if found else f"the store did not answer within {seconds:g} s"


def in_words(storage: Storage, error: Exception) -> str:
    """Asks the storage once more where its answer had no room for a reason."""
    code = _code(error)
    if code.isdigit():
        # To who asks whether a file is there S3 answers by a number alone.
        try:
            storage.listdir(NOTHING)
        except Exception as said:
            code = _code(said) or code
    hint = _LASTING.get(code or type(error).__name__)
    answer = f"the store answers {code}" if code else type(error).__name__
    return answer if hint is None else f"{answer}: {hint}"


def _code(error: Exception) -> str:
    """As botocore keeps it; "" where nobody answered. Its text is not shown: what it quotes is not
    ours to tell."""
    response: Any = getattr(error, "response", None)
    told = response.get("Error", {}) if isinstance(response, dict) else {}
    return str(told.get("Code", ""))[:64]
