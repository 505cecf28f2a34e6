"""The shape of the house: what must never be, wherever a change comes from."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from noregret.env import BadEnvironment, Environment
from noregret.variables import VARIABLES

from tests.conftest import SLOW_FILES

ROOT = Path(__file__).resolve().parents[1]


def tracked() -> list[Path]:
    """Files; a link to a folder names tracked files once more."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def test_import_platform__from_the_repository_root__is_the_standard_librarys() -> None:
    code = "import platform; print(platform.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).parent == Path(sysconfig.get_path("stdlib"))


def test_platform_folder__is_a_path_entry__never_a_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not (ROOT / "tests" / "platform").exists()


def test_tracked_files__name_no_registry_and_no_machine() -> None:
    # Put together here, so that this file does not hold what it looks for.
    forbidden = re.compile(
        "|".join(
            [
                "files.python" + "hosted.org",
                "pypi." + "org",
                "registry.npm" + "js",
                r"(?<![\w.])/wo" + "rk/",
                "/fa" + "rm/",
            ]
        )
    )
    guilty = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if forbidden.search(text):
            guilty.append(path.relative_to(ROOT))
    assert guilty == []


def test_settings__are_documented_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for variable in VARIABLES.values():
        assert f"| `{variable.name}` | {variable.purpose} | {variable.default} |" in readme


def test_commands__are_documented_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for path in (ROOT / "platform" / "noregret").glob("*/management/commands/*.py"):
        if path.stem != "__init__":
            assert f"`manage.py {path.stem}" in readme


def test_environment__is_read_in_one_file_only() -> None:
    readers = [
        path.relative_to(ROOT).as_posix()
        for folder in ("bandits", "serving", "platform")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"os\.environ\b(?!, os)|os\.getenv", path.read_text())
    ]
    # These hand the environment on to child processes, and look at nothing in it.
    handing_on = {
        "platform/noregret/embedded/services.py",
        "platform/noregret/embedded/running.py",
        "platform/noregret/bench/noop_server.py",
        "platform/noregret/bench/peers.py",
    }
    sets_only = {
        "platform/noregret/wsgi.py",
        "platform/noregret/celery.py",
        "platform/noregret/bench/noop_app.py",
        "serving/wsgi.py",
        "serving/aws_lambda.py",
    }
    assert set(readers) - handing_on - sets_only - {"platform/noregret/embedded/postgres.py"} == {
        "platform/noregret/env.py"
    }


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("NOREGRET_SECRET_KEY", "short", "at least 32"),
        ("NOREGRET_LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING or ERROR"),
        ("NOREGRET_REFRESH_SECONDS", "soon", "a number was expected"),
        ("NOREGRET_REFRESH_SECONDS", "nan", "at least"),
        ("NOREGRET_SERVING_BODY_LIMIT", "-1", "at least"),
    ],
)
def test_environment__value_that_cannot_be_used__names_variable_and_expectation(
    name: str, value: str, said: str
) -> None:
    with pytest.raises(BadEnvironment, match=said) as caught:
        Environment.read({name: value})
    assert name in str(caught.value)


def test_process_of_the_platform__imports_no_library_of_models_before_it_needs_one() -> None:
    """Every process does what this does: web, workers, beat, each command. scikit-learn takes
    longer than all of it, and brings pandas and pytest."""
    heavy = "{'sklearn', 'skops', 'pandas', 'pytest'} & sys.modules.keys()"
    code = f"import sys, django; django.setup(); import noregret.urls, noregret.wsgi; print(sorted({heavy}))"
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "noregret.settings", "PYTHONPATH": f"{ROOT}:{ROOT}/platform"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert said.stdout.strip() == "[]", said.stdout + said.stderr


def test_slow_files__are_there() -> None:
    assert [name for name in SLOW_FILES if not (ROOT / "tests" / name).is_file()] == []
