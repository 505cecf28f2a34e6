"""A process that serves the Open Inference Protocol over gRPC, with health and reflection.

Calls are whole before a thread is taken for one, as over HTTP: an event loop reads them, and few
threads answer. What callers may hold is bounded: a message, the calls that wait, all that are open.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serving import problems
from serving.api import open_inference as protocol
from serving.open_inference_messages import CLASSES, METHODS, SERVICE, file_descriptor
from serving.problems import Problem
from serving.process import process, waits

from . import service

log = structlog.get_logger(__name__)

WAITING_EACH = 32
"""Calls that may wait for each thread."""
WAITING_THREADS = 4
"""Threads for endpoints that wait for other machines, for each of those that compute: as over HTTP,
a machine that hangs keeps none from the endpoints that are served here."""
MOST_CALLS = 4096
"""Of all kinds at once: a stream that stays open is one, and takes no thread."""
READY_SECONDS = 1.0
"""How often it is looked whether this process can serve."""
STOP_SECONDS = 3.0
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class CannotListen(Exception):
    """The address is taken, or none of this machine's."""


class _Threads:
    """Threads that answer, and a bound of the calls that are answered or wait. Used by the event
    loop alone."""

    def __init__(self, name: str, threads: int, most: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._most = most
        self._taken = 0

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work` returns or raises; Problem 503 where too many wait already. Of a call that is
        given up the place is free when its thread is."""
        if self._taken >= self._most:
            raise problems.busy()
        self._taken += 1
        running = self._pool.submit(work, *arguments)
        running.add_done_callback(self._from_thread(asyncio.get_running_loop()))
        return await asyncio.wrap_future(running)

    def _from_thread(self, loop: asyncio.AbstractEventLoop) -> Callable[[Any], None]:
        def free() -> None:
            self._taken -= 1

        def done(_: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(free)

        return done

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Server:
    """`threads` answer; a message has at most `message_bytes`, also unpacked."""

    def __init__(self, *, threads: int, message_bytes: int) -> None:
        most = threads * (1 + WAITING_EACH)
        self._computing = _Threads("grpc", threads, most)
        self._waiting = _Threads("grpc-waiting", WAITING_THREADS * threads, most)
        self._message_bytes = message_bytes
        self._health = _Health()

    async def run(self, address: str, started: Callable[[int], None], ending: asyncio.Event) -> None:
        """Serve until `ending` is set. `started` is told the port. Raises CannotListen."""
        server = grpc.aio.server(options=_options(self._message_bytes), maximum_concurrent_rpcs=MOST_CALLS)
        server.add_generic_rpc_handlers((self._handlers(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server, pool=_pool())
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise CannotListen(str(error)) from error
        await server.start()
        started(port)
        telling = asyncio.create_task(self._tell_readiness())
        await ending.wait()
        telling.cancel()
        await self._health.enter_graceful_shutdown()
        await server.stop(STOP_SECONDS)
        self._computing.close()
        self._waiting.close()

    def _handlers(self) -> Any:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    self._answering(service.METHODS[name]),
                    request_deserializer=_parser(CLASSES[request]),
                    response_serializer=CLASSES[answer].SerializeToString,
                )
                for name, (request, answer) in METHODS.items()
            },
        )

    def _answering(self, method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        async def answer(request: Any, context: Any) -> Any:
            problem: Problem
            name = str(getattr(request, "model_name", "") or getattr(request, "name", ""))
            threads = self._waiting if waits(name) else self._computing
            try:
                if request is None:
                    raise problems.invalid_fields([{"field": "", "message": "the message can't be parsed"}])
                return await threads.run(method, request, context.invocation_metadata() or ())
            except Problem as refused:
                problem = refused
            except Exception as error:  # whatever it is, the caller gets an answer
                log.error("unforeseen error", method=method.__name__, exc_info=error)
                problem = problems.internal()
            return await context.abort(_CODES.get(problem.status, grpc.StatusCode.INTERNAL), problem.detail)

        return answer

    async def _tell_readiness(self) -> None:
        status = health_pb2.HealthCheckResponse
        while True:
            try:
                protocol.check_ready(process())
                told = status.SERVING
            except Problem:
                told = status.NOT_SERVING
            for name in ("", SERVICE):
                await self._health.set(name, told)
            await asyncio.sleep(READY_SECONDS)


async def serve(server: Server, address: str, started: Callable[[int], None]) -> None:
    """Run a server until SIGINT or SIGTERM. Raises CannotListen."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, ending.set)
    await server.run(address, started, ending)


def _parser(message: Any) -> Callable[[bytes], Any]:
    """None for what is no message of this kind: what a deserializer raises is told to callers as it
    is."""

    def parsed(body: bytes) -> Any:
        try:
            return message.FromString(body)
        except DecodeError:
            return None

    return parsed


def _options(message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.max_concurrent_streams", 256),
        ("grpc.max_connection_idle_ms", 600_000),
        ("grpc.so_reuseport", 0),  # else a second server would take half of the first one's calls
    ]


class _Health(health.aio.HealthServicer):  # type: ignore[misc]  # its package tells no types
    """As its package has it, but it keeps nothing of services that are not here: their names are
    anybody's."""

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - the method's name
        if request.service in ("", SERVICE):
            await super().Watch(request, context)
        else:
            status = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            await context.write(health_pb2.HealthCheckResponse(status=status))


def _pool() -> Any:
    """The descriptors of what is served here, and of nothing else."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file_descriptor())
    for module in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool
