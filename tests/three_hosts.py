"""A platform on three hosts: web; Redis; PostgreSQL with the workers. Each is a network namespace
of its own, and a wire between two of them can be cut: what is sent then is neither refused nor
answered.

The wires are bridges in a fourth namespace: cut there, every host still sees its own end up. Where
namespaces can't be made (it takes root, and `ip`), tests that need them are skipped, and say so.
"""

import contextlib
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
from noregret.embedded.postgres import bin_dir, let_through, unprivileged_user
from noregret.embedded.redis_server import binary
from noregret.embedded.running import MANAGE
from noregret.package_path import python_path

ROOT = Path(__file__).parents[1]
SECRET = "three-hosts-" + "0" * 32
READY_SECONDS = 240.0
LINKS = (("web", "redis"), ("web", "data"), ("redis", "data"))


def why_not() -> str:
    """Why there can be no three hosts here; empty where they can be."""
    if os.geteuid() != 0:
        return "network namespaces of three hosts take root"
    if shutil.which("ip") is None:
        return "network namespaces of three hosts take `ip`: apt-get install iproute2"
    name = f"nr-try-{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"network namespaces can't be made here: {made.stderr.strip()}"
    bridge = subprocess.run(
        ["ip", "-n", name, "link", "add", "name", "wire", "type", "bridge"], capture_output=True, text=True, check=False
    )
    _ip("netns", "del", name)
    return "" if bridge.returncode == 0 else f"bridges can't be made here: {bridge.stderr.strip()}"


class Network:
    """The namespaces. `address(a, b)` is what `a` calls `b` by."""

    def __init__(self) -> None:
        self._tag = secrets.token_hex(2)
        self._net = f"10.{random.SystemRandom().randrange(128, 250)}"

    def __enter__(self) -> "Network":
        try:
            for host in ("web", "redis", "data", "wires"):
                _ip("netns", "add", self.name(host))
                _ip("-n", self.name(host), "link", "set", "lo", "up")
            for a, b in LINKS:
                self._wire(a, b)
            # Whoever tests calls the web host by a wire that is never cut.
            _ip(
                "link",
                "add",
                "name",
                f"nr{self._tag}",
                "type",
                "veth",
                "peer",
                "name",
                "users",
                "netns",
                self.name("web"),
            )
            _ip("addr", "add", f"{self._net}.99.1/24", "dev", f"nr{self._tag}")
            _ip("link", "set", f"nr{self._tag}", "up")
            _ip("-n", self.name("web"), "addr", "add", f"{self._net}.99.2/24", "dev", "users")
            _ip("-n", self.name("web"), "link", "set", "users", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *args: object) -> None:
        for host in ("web", "redis", "data", "wires"):
            subprocess.run(["ip", "netns", "del", self.name(host)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", f"nr{self._tag}"], capture_output=True, check=False)

    def name(self, host: str) -> str:
        return f"nr-{self._tag}-{host}"

    @property
    def web(self) -> str:
        """The web host, as whoever tests calls it."""
        return f"{self._net}.99.2"

    def address(self, a: str, b: str) -> str:
        i, link = next((i, link) for i, link in enumerate(LINKS, 1) if set(link) == {a, b})
        return f"{self._net}.{i}.{1 + link.index(b)}"

    def cut(self, a: str, b: str) -> None:
        _ip("-n", self.name("wires"), "link", "set", self._bridge(a, b), "down")

    def heal(self, a: str, b: str) -> None:
        _ip("-n", self.name("wires"), "link", "set", self._bridge(a, b), "up")

    def _bridge(self, a: str, b: str) -> str:
        return f"{a}-{b}" if (a, b) in LINKS else f"{b}-{a}"

    def _wire(self, a: str, b: str) -> None:
        wires, bridge = self.name("wires"), f"{a}-{b}"
        _ip("-n", wires, "link", "add", "name", bridge, "type", "bridge")
        _ip("-n", wires, "link", "set", bridge, "up")
        for host, other in ((a, b), (b, a)):
            end, device = f"{host}.{other}", f"to-{other}"
            _ip(
                "-n",
                wires,
                "link",
                "add",
                "name",
                end,
                "type",
                "veth",
                "peer",
                "name",
                device,
                "netns",
                self.name(host),
            )
            _ip("-n", wires, "link", "set", end, "master", bridge)
            _ip("-n", wires, "link", "set", end, "up")
            _ip("-n", self.name(host), "addr", "add", f"{self.address(other, host)}/24", "dev", device)
            _ip("-n", self.name(host), "link", "set", device, "up")


class ThreeHosts:
    """The servers on them; `url` is the web host's."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network, self.folder = network, folder
        self.url = f"http://{network.web}:8000"
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def database(self) -> str:
        """PostgreSQL, from this machine, by its socket: no wire is on the way."""
        return f"host={self.folder} user=postgres dbname=noregret"

    def start(self) -> None:
        postgres = self._postgres()
        redis = [str(binary()), "--port", "6379", "--protected-mode", "no", "--appendonly", "yes"]
        self._start("redis", [*redis, "--save", "", "--dir", str(self._made("redis")), "--maxmemory", "256mb"])
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                with psycopg.connect(
                    f"host={self.folder} user=postgres dbname=postgres", autocommit=True
                ) as connection:
                    connection.execute("CREATE DATABASE noregret")
                break
            except psycopg.OperationalError:
                assert postgres.poll() is None, (self.folder / "postgres.log").read_text()[-2000:]
                assert time.monotonic() < until
                time.sleep(0.1)
        migrated = self.manage("migrate")
        assert migrated.returncode == 0, migrated.stderr
        celery = [sys.executable, "-m", "celery", "-A", "noregret.celery"]
        quiet = ["--without-gossip", "--without-mingle", "--concurrency", "1", "--loglevel", "WARNING"]
        self._start("data", [*celery, "worker", *quiet])
        self._start("data", [*celery, "beat", "--schedule", str(self.folder / "schedule"), "--loglevel", "WARNING"])
        serve = [sys.executable, "-m", "noregret.web", "--host", self.network.web, "--port", "8000", "--workers", "1"]
        self._start("web", serve)
        self._wait(self._is_well, "web")

    def stop(self) -> None:
        for child in reversed(self._children):
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGINT if "postgres" in str(child.args) else signal.SIGTERM)
        for child in reversed(self._children):
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()

    def manage(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self._in("data"), sys.executable, str(MANAGE), *arguments, "--data-dir", str(self.folder / "data")],
            env=self._environment("data"),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def differing(self) -> str:
        """What `rebuild --check` says that is wrong."""
        checked = self.manage("rebuild", "--check")
        return "" if checked.returncode == 0 else checked.stdout[-3000:] + checked.stderr[-2000:]

    def readiness(self) -> Any:
        return httpx.get(f"{self.url}/readyz", timeout=20).json()

    def _is_well(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz?strict=1", timeout=20).status_code == 200
        return False

    def _wait(self, true: Any, host: str) -> None:
        until = time.monotonic() + READY_SECONDS
        while not true():
            child = self._children[-1]
            said = (self.folder / f"{host}.log").read_text(errors="replace")[-3000:]
            assert child.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.2)

    def _made(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def _postgres(self) -> "subprocess.Popen[bytes]":
        user, group = unprivileged_user() or (os.getuid(), os.getgid())
        let_through(bin_dir() / "postgres")
        data = self._made("postgres")
        for path in (self.folder, data):
            os.chown(path, user, group)
            path.chmod(0o755 if path == self.folder else 0o700)
        let_through(data)
        as_user = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        made = [str(bin_dir() / "initdb"), "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run([*as_user, *made, f"--pgdata={data}"], cwd="/", check=True, capture_output=True, timeout=120)
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 0.0.0.0/0 trust\n")
        server = [str(bin_dir() / "postgres"), "-D", str(data), "-h", "*", "-k", str(self.folder), "-c", "timezone=UTC"]
        return self._start("data", [*as_user, *server], log="postgres")

    def _in(self, host: str) -> list[str]:
        return ["ip", "netns", "exec", self.network.name(host)]

    def _start(self, host: str, command: list[str], log: str = "") -> "subprocess.Popen[bytes]":
        with (self.folder / f"{log or host}.log").open("ab") as output:
            child = subprocess.Popen(
                [*self._in(host), *command],
                cwd="/",
                env=self._environment(host),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def _environment(self, host: str) -> Mapping[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("NOREGRET_")}
        if host == "redis":
            return ours
        postgres = "127.0.0.1" if host == "data" else self.network.address(host, "data")
        return ours | {
            **python_path(),
            "PYTHONPATH": os.pathsep.join([python_path().get("PYTHONPATH", ""), str(ROOT)]),
            "DATABASE_URL": f"postgresql://postgres@{postgres}:5432/noregret",
            "REDIS_URL": f"redis://{self.network.address(host, 'redis')}:6379/0",
            "DJANGO_SETTINGS_MODULE": "noregret.settings",
            "NOREGRET_DATA_DIR": str(self._made(host)),
            "NOREGRET_SECRET_KEY": SECRET,
            "NOREGRET_ALLOWED_HOSTS": "*",
            "NOREGRET_PYTHON_CALLABLES": "tests.callables.*",
            "OMP_NUM_THREADS": "1",
        }


@contextlib.contextmanager
def three_hosts() -> Iterator[ThreeHosts]:
    # Not pytest's own folder: PostgreSQL runs as another user, who could not come to it.
    folder = Path(tempfile.mkdtemp(prefix="noregret-hosts-"))
    try:
        with Network() as network:
            hosts = ThreeHosts(network, folder)
            try:
                hosts.start()
                yield hosts
            finally:
                hosts.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)
