"""A Redis or Valkey Cluster of real servers on loopback: three that take writes, each with a
replica."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from noregret.embedded.redis_server import binary
from redis.crc import key_slot

from serving.clustered_redis import ClusteredRedis

NODE_TIMEOUT_MS = 2500
"""So long a server is silent until the others choose one in its place: on a busy machine one that
lives is silent for longer than one would think."""
_SLOTS = 16384
READY_SECONDS = 60.0


class Cluster:
    """Six servers in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ports = _free_ports(6)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in self.ports[:3])}"

    def start(self) -> None:
        for port in self.ports:
            self.start_server(port)
        clients = {port: self.client(port) for port in self.ports}
        for client in clients.values():
            _wait(lambda client=client: _answers(client))  # type: ignore[misc]  # it is called at once
        primaries, replicas = self.ports[:3], self.ports[3:]
        for i, port in enumerate(primaries):
            first, last = i * _SLOTS // 3, (i + 1) * _SLOTS // 3 - 1
            _ask(clients[port], "CLUSTER ADDSLOTSRANGE", first, last)
            _ask(clients[port], "CLUSTER SET-CONFIG-EPOCH", i + 1)
        for port in self.ports[1:]:
            _ask(clients[port], "CLUSTER MEET", "127.0.0.1", self.ports[0])
        _wait(lambda: all(_known(client) == 6 for client in clients.values()))
        for primary, replica in zip(primaries, replicas, strict=True):
            name = _ask(clients[primary], "CLUSTER MYID").decode()
            _wait(lambda replica=replica, name=name: _replicates(clients[replica], name))  # type: ignore[misc]
        _wait(lambda: all(_is_whole(client) for client in clients.values()))
        _wait(lambda: all(_in_step(clients[port]) for port in primaries))
        for client in clients.values():
            client.close()

    def start_server(self, port: int) -> None:
        folder = self._folder / str(port)
        folder.mkdir(exist_ok=True)
        options = {
            "port": port,
            "bind": "127.0.0.1",
            "dir": folder,
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-replica-validity-factor": 0,
            "cluster-require-full-coverage": "no",
            "appendonly": "no",
            "save": "",
            "repl-diskless-sync-delay": 0,
            "maxmemory": "256mb",
            "maxmemory-policy": "noeviction",
        }
        command = [str(binary()), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
        with (folder / "log").open("ab") as log:
            self._processes[port] = subprocess.Popen(command, stdout=log, stderr=log, env={"LC_ALL": "C"}, cwd="/")

    def client(self, port: int) -> redis.Redis:
        """Of one server, whatever it has."""
        return redis.Redis("127.0.0.1", port, socket_timeout=5, socket_connect_timeout=5)

    def owner(self, key: str) -> int:
        """The port of the server that takes writes of a key, as most servers say."""
        slot = key_slot(key.encode())
        said: list[int] = []
        for port in self.ports:
            client = self.client(port)
            with contextlib.suppress(redis.RedisError):
                for first, last, primary, *_ in _ask(client, "CLUSTER SLOTS"):
                    if first <= slot <= last:
                        said.append(int(primary[1]))
            client.close()
        return max(set(said), key=said.count)

    def servers_of(self, key: str) -> list[int]:
        """The ports of all servers that have a key, as one says that takes writes."""
        slot = key_slot(key.encode())
        for first, last, *servers in _ask(self.client(self.owner(key)), "CLUSTER SLOTS"):
            if first <= slot <= last:
                return [int(server[1]) for server in servers]
        raise AssertionError(f"no server has {key}")

    def primaries(self) -> list[int]:
        """Those that take writes."""
        return [port for port in self.ports if self.client(port).info("replication")["role"] == "master"]

    @contextlib.contextmanager
    def moving(self, slot: int, source: int, target: int) -> Iterator[Callable[[], None]]:
        """A slot that is moving; its keys do when what is yielded is called, and at the end it has
        moved."""
        here, there = self.client(source), self.client(target)
        names = {port: _ask(self.client(port), "CLUSTER MYID").decode() for port in (source, target)}
        _ask(there, "CLUSTER SETSLOT", slot, "IMPORTING", names[source])
        _ask(here, "CLUSTER SETSLOT", slot, "MIGRATING", names[target])

        def move() -> None:
            while found := _ask(here, "CLUSTER GETKEYSINSLOT", slot, 100):
                _ask(here, "MIGRATE", "127.0.0.1", target, "", 0, 5000, "KEYS", *found)

        yield move
        move()
        for client in (there, here, *map(self.client, self.primaries())):
            _ask(client, "CLUSTER SETSLOT", slot, "NODE", names[target])

    def kill(self, port: int) -> None:
        self._processes[port].send_signal(signal.SIGKILL)
        self._processes[port].wait()

    @contextlib.contextmanager
    def gone(self, port: int) -> Iterator[None]:
        """Meanwhile that server is not there, and for too short a time for another in its place;
        what it had is gone."""
        self.kill(port)
        try:
            yield
        finally:
            self.start_server(port)
            _wait(self._is_settled)

    @contextlib.contextmanager
    def hung(self, port: int) -> Iterator[None]:
        """Meanwhile that server takes connections, and answers nothing."""
        self._processes[port].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._processes[port].send_signal(signal.SIGCONT)
            _wait(self._is_settled)

    def is_whole(self) -> bool:
        """Do all that answer know, for each slot, a server that is there?"""
        clients = [self.client(port) for port in self.ports]
        try:
            return all(int(_info(client)["cluster_slots_ok"]) == _SLOTS for client in clients if _answers(client))
        finally:
            for client in clients:
                client.close()

    def _is_settled(self) -> bool:
        """Every server is there, three take writes, and each has a replica that has what it has."""
        clients = [self.client(port) for port in self.ports]
        try:
            if not all(_answers(client) and _is_whole(client) for client in clients):
                return False
            writing = [client for client in clients if client.info("replication")["role"] == "master"]
            return len(writing) == 3 and all(_in_step(client) for client in writing)
        finally:
            for client in clients:
                client.close()

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="noregret-cluster-"))
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """The address of one server by itself."""
    port = _free_ports(1)[0]
    options = {"port": port, "bind": "127.0.0.1", "save": "", "maxmemory-policy": "noeviction"}
    command = [str(binary()), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={"LC_ALL": "C"}, cwd="/")
    client = redis.Redis("127.0.0.1", port)
    try:
        _wait(lambda: _answers(client))
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        client.close()
        process.kill()
        process.wait()


def let_tests_look_at_all_keys() -> None:
    """As the tests of one server do, and no part of the service: across slots and servers."""

    def scan_iter(self: ClusteredRedis, *args: Any, **options: Any) -> Iterator[bytes]:
        for server in self.shards():
            yield from server.scan_iter(*args, **options)

    def delete(self: Any, *names: Any) -> int:
        return sum(int(self.execute_command("DEL", name)) for name in names)

    setattr(ClusteredRedis, "scan_iter", scan_iter)  # noqa: B010 - to another signature than it has
    setattr(ClusteredRedis, "delete", delete)  # noqa: B010 - as above


def _free_ports(number: int) -> list[int]:
    """A cluster's servers speak to each other at their port and 10,000."""
    found: list[int] = []
    port = 20_000 + os.getpid() % 10_000
    while len(found) < number:
        port = port + 1 if port < 35_000 else 20_000
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            found.append(port)
    return found


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < until, "the cluster did not come up"
        time.sleep(0.05)


def _ask(client: Any, *words: object) -> Any:
    return client.execute_command(*words)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _info(client: redis.Redis) -> dict[str, str]:
    said = _ask(client, "CLUSTER INFO")
    if isinstance(said, dict):
        return {str(name): str(value) for name, value in said.items()}
    return dict(line.split(":", 1) for line in said.decode().split("\r\n") if line)


def _known(client: redis.Redis) -> int:
    return int(_info(client)["cluster_known_nodes"])


def _is_whole(client: redis.Redis) -> bool:
    return _info(client)["cluster_state"] == "ok"


def _replicates(client: redis.Redis, name: str) -> bool:
    try:
        return bool(_ask(client, "CLUSTER REPLICATE", name))
    except redis.ResponseError:  # it does not know that server yet
        return False


def _in_step(client: redis.Redis) -> bool:
    said = client.info("replication")
    return bool(said.get("connected_slaves") == 1 and said["slave0"]["state"] == "online")
