"""The wheel, installed where no checkout is: one command, whole. It is built and installed without
a network."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """A folder with `venv`, in which the wheel is installed beside the packages of this Python;
    nothing of the checkout is on its path."""
    # Not pytest's own folder: it is closed to the user that `up` becomes, where root runs the
    # tests.
    folder = Path(tempfile.mkdtemp(prefix="noregret-wheel-"))
    folder.chmod(0o755)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    venv.create(folder / "venv", symlinks=True)
    environment = folder / "venv"
    (wheel,) = folder.glob("*.whl")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(environment / "bin" / "python"),
        "install",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, "--no-compile", str(wheel)], check=True, capture_output=True, timeout=120)
    packages = next((environment / "lib").glob("python*/site-packages"))
    # Everything that this Python has, but the checkout: its own .pth file is left out, for only
    # listed folders' are read.
    borrowed = folder / "borrowed"
    borrowed.mkdir()
    for entry in next(Path(path) for path in sys.path if path.endswith("site-packages")).iterdir():
        if "noregret" not in entry.name:
            (borrowed / entry.name).symlink_to(entry)
    (packages / "borrowed.pth").write_text(f"{borrowed}\n")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_wheel__installed_alone__serves_all_that_a_checkout_serves(installed: Path) -> None:
    command = installed / "venv" / "bin" / "noregret"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("NOREGRET_")
        and name not in ("DATABASE_URL", "REDIS_URL", "PYTHONPATH", "DJANGO_SETTINGS_MODULE")
    }
    start = installed / "elsewhere"
    start.mkdir()
    with (installed / "up.err").open("w") as errors:
        up = subprocess.Popen(
            [str(command), "up", "--port", "0"],
            cwd=start,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert up.stdout is not None
        line = up.stdout.readline()
        assert line.startswith("ready "), (installed / "up.err").read_text()
        assert (start / ".noregret" / "secret_key").exists()
        code = "import bandits, noregret, serving; print(bandits.__file__, noregret.__file__, serving.__file__)"
        python = str(installed / "venv" / "bin" / "python")
        places = subprocess.run(
            [python, "-c", code], cwd=start, env=environment, capture_output=True, text=True, check=True
        )
        assert all(place.startswith(str(installed / "venv")) for place in places.stdout.split())

        made = subprocess.run(
            [str(command), "apikey", "me", "--scopes", "predict,feedback,manage"],
            cwd=start, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        key = {"Authorization": f"Bearer {made.stdout.strip()}"}
        with httpx.Client(base_url=line.split()[1], timeout=20) as client:
            docs = client.get("/api/docs")
            assert docs.status_code == 200
            assert "swagger" in docs.text.lower()
            for script in re.findall(r"(?:src|href)=\"(/static/[^\"]+)\"", docs.text):
                assert client.get(script).status_code == 200, script
            assert client.get("/api/schema").json()["openapi"].startswith("3.1")
            login(client, (installed / "up.err").read_text())
            model = {"name": "page", "version": "a", "framework": "static", "payload": {"text": "A"}}
            assert client.post("/api/v1/models", json=model, headers=key).status_code == 201
            endpoint = {"name": "pages", "champion": "page@a"}
            assert client.post("/api/v1/endpoints", json=endpoint, headers=key).status_code == 201
            answer = client.post("/api/v1/endpoints/pages/predict", json={"inputs": [[1.0]]}, headers=key)
            assert answer.status_code == 200, answer.text
            assert answer.json()["model"] == "page@a"
        up.terminate()
        assert up.wait(60) == 0
    finally:
        if up.poll() is None:
            up.kill()  # the kernel asks its children to stop
            up.wait()
        if up.stdout is not None:
            up.stdout.close()


def login(client: httpx.Client, said: str) -> None:
    """As the admin whose password the first start said, to the home page with our own template."""
    found = re.search(r"the password (\S+);", said)
    assert found is not None, said
    page = client.get("/admin/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None
    form = {"username": "admin", "password": found.group(1), "csrfmiddlewaretoken": token.group(1), "next": "/admin/"}
    entered = client.post("/admin/login/", data=form, headers={"Referer": str(client.base_url)})
    assert entered.status_code == 302, entered.text
    home = client.get("/admin/")
    assert home.status_code == 200
    assert "Endpoints" in home.text
    assert client.get("/static/dashboard/dashboard.css").status_code == 200


def test_commands__of_the_console_script__are_those_of_manage_py(installed: Path) -> None:
    script = installed / "venv" / "bin" / "noregret"
    outputs = [
        subprocess.run([*command, "help", "--commands"], capture_output=True, text=True, timeout=60, check=True).stdout
        for command in ([str(script)], [sys.executable, str(ROOT / "manage.py")])
    ]
    assert outputs[0] == outputs[1]
    assert {"up", "apikey", "demo", "doctor", "rebuild", "bench", "simulate"} <= set(outputs[0].split())
