"""A web server as it is shipped, in a thread of this process, for clients in processes of their
own."""

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from serving.web.connection import Connection


@pytest.fixture(scope="session")
def web(django_db_setup: None) -> Iterator[str]:
    """`host:port` of both planes. They serve what the test's `platform` holds."""
    from noregret.wsgi import front

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        front,
        http=Connection,
        loop="uvloop",
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
