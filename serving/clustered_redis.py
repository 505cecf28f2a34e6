"""A client of a Redis or Valkey Cluster that is used like redis-py's of one server.

redis-py's own cluster client was rejected for the hot path: it connects when it is made, sleeps
inside a request while the cluster is down, tries again, closes a server's free connections whenever
it asks who has which keys, refuses MGET, TIME and EVAL in pipelines, and raises errors that are no
redis.RedisError (docs/adr/0076). Here a command goes to one server, within the deadlines of its use
(`serving.redis_clients`), follows MOVED and ASK so often and no more, and is never repeated.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis
from redis.client import Pipeline
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ReadOnlyError, TryAgainError

from .redis_addresses import Address
from .redis_topology import Topology

T = TypeVar("T")

REDIRECTIONS = 3
"""So often at most a command follows a server that says where its key is."""

_TRIED = 3
"""So many servers at most are asked for what any of them could answer."""

_AWAY = (redis.ConnectionError, redis.TimeoutError, OSError)
_EVERYWHERE = "PING"
_WHERE_IT_CAN_BE = "SCRIPT LOAD"
_ANYWHERE = {"TIME"}
_OF_A_SERVER = {"INFO", "CONFIG GET", "CONFIG SET", "SCAN", "DBSIZE", "FLUSHDB", "FLUSHALL"}


class Unsettled(redis.ConnectionError):
    """The cluster is choosing a server, or moving keys: what was asked was not done."""


def unsettled(error: BaseException) -> bool:
    """Is an answer one of a cluster that changes, rather than about what was asked?"""
    return isinstance(error, AskError | ClusterDownError | TryAgainError | ReadOnlyError)


class ClusteredRedis(redis.Redis):
    """`client_at` makes a client of one server. `waits`: may a command wait until it is known which
    server has its key, where nothing is known yet?"""

    def __init__(self, topology: Topology, client_at: Callable[[Address], redis.Redis], *, waits: bool) -> None:
        self._topology = topology
        self._client_at = client_at
        self._waits = waits
        self._clients: dict[Address, redis.Redis] = {}
        # It reads answers as any server's client does; nothing is sent by it.
        any_server = client_at(next(iter(topology.servers)))
        super().__init__(connection_pool=any_server.connection_pool)

    # To the server that has a key.

    def at_owner(self, key: Any, ask: Callable[[redis.Redis, bool], T]) -> T:
        """What `ask` returns for the client of the server that has `key`; True with it: the command
        needs an ASKING before it. Raises redis.RedisError."""
        server, asking = self._owner(slot_of(key)), False
        for _ in range(REDIRECTIONS):
            try:
                return ask(self._at(server), asking)
            except AskError as error:
                asking = not isinstance(error, MovedError)
                server = Address(error.host or server.host, error.port)
                if not asking:
                    self._topology.moved(error.slot_id, server)
            except (ClusterDownError, TryAgainError, ReadOnlyError) as error:
                self._topology.refresh_soon()
                raise Unsettled(str(error)) from error
            except _AWAY:
                self._topology.refresh_soon()
                raise
        raise Unsettled(f"a key was still elsewhere after {REDIRECTIONS} servers")

    def owner_of(self, key: Any) -> redis.Redis:
        """The client of the server that has `key`, as far as is known."""
        return self._at(self._owner(slot_of(key)))

    def shards(self) -> list[redis.Redis]:
        """A client of each server that takes writes, in the order of their addresses."""
        self._know()
        self._topology.refresh_if_old()
        if not self._topology.shards:
            raise redis.ConnectionError("no server of the cluster is known yet")
        return [self._at(shard.primary) for shard in self._topology.shards]

    @property
    def topology(self) -> Topology:
        self._know()
        return self._topology

    def _owner(self, slot: int) -> Address:
        self._know()
        try:
            return self._topology.owner(slot)
        except redis.ConnectionError:
            self._topology.refresh_soon()
            raise

    def _know(self) -> None:
        if not self._topology.is_known and self._waits:
            self._topology.refresh()

    def _at(self, server: Address) -> redis.Redis:
        client = self._clients.get(server)
        if client is None:
            for gone in self._clients.keys() - self._topology.servers:
                self._clients.pop(gone).close()
            client = self._clients.setdefault(server, self._client_at(server))
        return client

    # As redis-py's client.

    def execute_command(self, *args: Any, **options: Any) -> Any:
        name = str(args[0]).upper()
        if name == _EVERYWHERE:
            return [self._heard(server, args, options) for server in self.shards()][-1]
        if name == _WHERE_IT_CAN_BE:
            return self._of_those_that_are_there(args, options)
        if name in _ANYWHERE:
            return self._of_any(self.shards()[:_TRIED], args, options)
        return self.at_owner(_key_of(name, args), lambda server, asking: _answer(server, args, options, asking))

    def _of_any(self, servers: Sequence[redis.Redis], args: Any, options: Any) -> Any:
        """The first answer: a server that is away is not the others' trouble."""
        for server in servers[:-1]:
            try:
                return self._heard(server, args, options)
            except _AWAY:
                continue
        return self._heard(servers[-1], args, options)

    def _of_those_that_are_there(self, args: Any, options: Any) -> Any:
        """An answer, where there is one: who is away has no script of before either, and says so
        once it is back."""
        answers, missing = [], []
        for server in self.shards():
            try:
                answers.append(self._heard(server, args, options))
            except _AWAY as error:
                missing.append(error)
        if not answers:
            raise missing[0]
        return answers[0]

    def _heard(self, server: redis.Redis, args: Any, options: Any) -> Any:
        try:
            return _sent(server, args, options)
        except _AWAY:
            self._topology.refresh_soon()
            raise

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        return _ClusterPipeline(self, transaction)

    def close(self) -> None:
        for server in [*self._clients]:
            self._clients.pop(server).close()
        super().close()

    def execute_many(self, commands: Sequence[tuple[Any, Any]], *, one_step: bool) -> list[Any]:
        """The answers of commands, those of one server in one round trip. An error is in the place
        of each command that it is of: a server that is away is not the others' trouble. `one_step`:
        all or none, of one slot. Raises redis.ConnectionError or redis.TimeoutError where no server
        answers."""
        if one_step:
            (name, *_), _ = commands[0]
            key = _key_of(str(name).upper(), commands[0][0])
            return self.at_owner(key, lambda server, asking: _together(server, commands, asking))
        by_server: dict[redis.Redis, list[int]] = {}
        for position, (args, _) in enumerate(commands):
            name = str(args[0]).upper()
            server = self.shards()[0] if name in _ANYWHERE else self.owner_of(_key_of(name, args))
            by_server.setdefault(server, []).append(position)
        answers: list[Any] = [None] * len(commands)
        heard: list[redis.Redis] = []
        away = 0
        for server, positions in by_server.items():
            found: list[Any]
            try:
                found = _one_by_one(server, [commands[position] for position in positions])
                heard.append(server)
            except _AWAY as error:
                self._topology.refresh_soon()
                away += 1
                if away == len(by_server):
                    raise
                found = [error] * len(positions)
            for position, answer in zip(positions, found, strict=True):
                answers[position] = answer
        for position, answer in enumerate(answers):
            args, options = commands[position]
            of_any = isinstance(answer, _AWAY) and str(args[0]).upper() in _ANYWHERE
            if of_any or (isinstance(answer, Exception) and unsettled(answer)):
                try:
                    answers[position] = (
                        self._of_any(heard, args, options) if of_any else self.execute_command(*args, **options)
                    )
                except redis.RedisError as error:
                    answers[position] = error
        return answers


class _ClusterPipeline(Pipeline):
    """Commands that are sent together to each server that has some of their keys."""

    def __init__(self, cluster: ClusteredRedis, transaction: bool) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, transaction, None)
        self._cluster = cluster

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = self.command_stack
        try:
            answers = self._cluster.execute_many(commands, one_step=bool(self.transaction)) if commands else []
        finally:
            self.reset()
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, _AWAY):
                    raise answer
            self.raise_first_error(commands, answers)  # type: ignore[no-untyped-call]  # left untyped there
        return answers


def slot_of(key: str | bytes) -> int:
    """The slot of a key, by its hash tag if it has one."""
    return key_slot(key.encode() if isinstance(key, str) else key)


def _sent(client: Any, args: Any, options: Any) -> Any:
    """`client` as Any: redis-py leaves this method untyped."""
    return client.execute_command(*args, **options)


def _key_of(name: str, args: Sequence[Any]) -> Any:
    """The key by which a command, as redis-py packs it, is sent to a server: its first. Servers
    refuse a command whose other keys are elsewhere."""
    if name in {"EVAL", "EVALSHA"}:
        if int(args[2]):
            return args[3]
    elif name in {"XREAD", "XREADGROUP"}:
        return args[args.index(b"STREAMS") + 1]
    elif name not in _OF_A_SERVER and len(args) > 1:
        return args[1]
    raise redis.DataError(f"{name} names no key: a server of the cluster is to be asked by itself")


def _answer(server: redis.Redis, args: Any, options: Any, asking: bool) -> Any:
    if not asking:
        return _sent(server, args, options)
    answer = _one_by_one(server, [(("ASKING",), {}), (args, options)])[1]
    if isinstance(answer, Exception):
        raise answer
    return answer


def _one_by_one(server: redis.Redis, commands: Sequence[tuple[Any, Any]]) -> list[Any]:
    with server.pipeline(transaction=False) as pipeline:
        for args, options in commands:
            _sent(pipeline, args, options)
        return pipeline.execute(raise_on_error=False)


def _together(server: redis.Redis, commands: Sequence[tuple[Any, Any]], asking: bool) -> list[Any]:
    if asking:  # each of them would need one, and MULTI takes none
        raise TryAgainError("keys of one step are being moved to another server")
    with server.pipeline(transaction=True) as pipeline:
        for args, options in commands:
            _sent(pipeline, args, options)
        return pipeline.execute(raise_on_error=False)
