"""Webhooks and e-mail: told with the change, signed, retried, and never to where they must not
go."""

import contextlib
import hashlib
import hmac
import json
import os
import shutil
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from noregret.notify import deliver
from noregret.notify.deliver import deliver_due
from noregret.notify.models import Delivery, Webhook
from noregret.trail import audit
from noregret.trail.sending import ATTEMPTS, CLAIMED_SECONDS, pause_after

from serving.outbound.addresses import AddressRefused, resolve
from tests.conftest import Api, endpoint_of, static_model

pytestmark = pytest.mark.django_db(transaction=True)

WEBHOOKS = "/api/v1/webhooks"


class Receiver:
    """A server on the loopback that keeps what it is told, and answers as it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((dict(self.headers), body))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                if outer.status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?x=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.WEBHOOK_PRIVATE = True
    one = Receiver()
    yield one
    one.server.shutdown()
    one.server.server_close()


def happen(action: str = "guardrail.acted", endpoint: str = "pages") -> None:
    with transaction.atomic():
        audit.record(
            actor="t", action=action, endpoint=endpoint, experiment="e", reason="because", details={"count": 60}
        )


def test_webhook__event__is_sent_signed__once(alice: Api, receiver: Receiver) -> None:
    made = alice.post(WEBHOOKS, {"name": "ops", "url": receiver.url, "events": ["guardrail.acted"]})
    assert made.status == 201, made.content
    happen()
    happen("experiment.started")
    assert deliver_due() == 1
    assert deliver_due() == 0
    ((headers, body),) = receiver.requests
    document = json.loads(body)
    assert (document["event"], document["experiment"], document["details"]) == ("guardrail.acted", "e", {"count": 60})
    assert headers["X-Noregret-Delivery"] == document["id"]
    sent, signed = (part.split("=")[1] for part in headers["X-Noregret-Signature"].split(","))
    expected = hmac.new(made["secret"].encode(), f"{sent}.".encode() + body, hashlib.sha256).hexdigest()
    assert signed == expected
    shown = alice.get(f"{WEBHOOKS}/ops").body
    assert (shown["waiting"], shown["failed"]) == (0, 0)
    assert "secret" not in shown
    assert made["secret"] not in alice.get("/api/v1/audit").content.decode()


def test_webhook__change_that_is_undone__tells_nobody(alice: Api, receiver: Receiver) -> None:
    alice.post(WEBHOOKS, {"name": "ops", "url": receiver.url})
    Delivery.objects.all().delete()
    with transaction.atomic():
        happen()
        assert Delivery.objects.count() == 1
        transaction.set_rollback(True)
    assert Delivery.objects.count() == 0


@pytest.mark.parametrize("status", [500, 404, 302])
def test_webhook__receiver_that_refuses__is_tried_again_and_given_up(
    alice: Api, receiver: Receiver, status: int
) -> None:
    alice.post(WEBHOOKS, {"name": "ops", "url": receiver.url, "events": ["guardrail.acted"]})
    happen()
    receiver.status = status
    for attempt in range(1, ATTEMPTS + 1):
        assert deliver_due() == 0
        held = Delivery.objects.get()
        assert held.attempts == attempt
        assert held.problem == f"it answered {status}"
        if attempt < ATTEMPTS:
            left = held.due_at - timezone.now()
            assert pause_after(attempt) - timedelta(seconds=5) < left <= pause_after(attempt)
        Delivery.objects.update(due_at=timezone.now())
    assert held.state == "failed"
    assert deliver_due() == 0
    assert len(receiver.requests) == ATTEMPTS
    assert alice.get(f"{WEBHOOKS}/ops")["failed"] == 1


def test_webhook__receiver_that_is_back__gets_it(alice: Api, receiver: Receiver) -> None:
    alice.post(WEBHOOKS, {"name": "ops", "url": receiver.url, "events": ["guardrail.acted"]})
    happen()
    receiver.status = 503
    deliver_due()
    receiver.status = 204
    Delivery.objects.update(due_at=timezone.now())
    assert deliver_due() == 1
    assert json.loads(receiver.requests[0][1])["id"] == json.loads(receiver.requests[1][1])["id"]


class Dripper(socketserver.BaseRequestHandler):
    """Answers a header's byte at a time, for as long as anybody listens."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.request.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            for _ in range(600):
                self.request.sendall(b"x")
                time.sleep(0.1)


def test_webhook__receiver_that_drips__has_no_more_time_than_another(
    alice: Api, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOK_PRIVATE = True
    monkeypatch.setattr(deliver, "TIMEOUT_SECONDS", 1.0)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dripper) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        alice.post(WEBHOOKS, {"name": "drips", "url": url, "events": ["guardrail.acted"]})
        happen()
        began = time.monotonic()
        assert deliver_due() == 0
        assert time.monotonic() - began < 20.0  # a second was given, and it drips for sixty
        server.shutdown()
    held = Delivery.objects.get()
    assert (held.state, held.problem) == ("waiting", "it took longer than 1 s")


def test_webhook__receiver_that_does_not_answer__keeps_no_other_waiting(
    alice: Api, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages come first, by their age; after one that failed the others have their turn."""
    monkeypatch.setattr(deliver, "ROUND_SECONDS", 60.0)
    Webhook.objects.create(name="away", url="http://127.0.0.1:1/", secret="s", events=["guardrail.acted"])
    for _ in range(8):
        happen()
    alice.post(WEBHOOKS, {"name": "good", "url": receiver.url, "events": ["guardrail.acted"]})
    happen()
    assert deliver_due() == 1
    assert sorted(Delivery.objects.filter(webhook__name="away").values_list("attempts", flat=True)) == [0] * 8 + [1]
    assert Delivery.objects.get(webhook__name="good").state == "delivered"


def test_webhook__address_that_can_never_be_called__is_final_and_stops_no_other(alice: Api, receiver: Receiver) -> None:
    alice.post(WEBHOOKS, {"name": "good", "url": receiver.url, "events": ["guardrail.acted"]})
    Webhook.objects.create(name="bad", url="http://h:99999/", secret="s", events=["guardrail.acted"])
    happen()
    assert deliver_due() == 1
    assert Delivery.objects.get(webhook__name="bad").attempts == 1


def test_webhook__gone__is_not_tried_again(alice: Api, receiver: Receiver) -> None:
    alice.post(WEBHOOKS, {"name": "ops", "url": receiver.url, "events": ["guardrail.acted"]})
    happen()
    receiver.status = 410
    deliver_due()
    assert (Delivery.objects.get().state, Delivery.objects.get().attempts) == ("failed", 1)


def test_delivery__two_workers_at_once__send_it_once(alice: Api, receiver: Receiver) -> None:
    alice.post(WEBHOOKS, {"name": "ops", "url": receiver.url, "events": ["guardrail.acted"]})
    for _ in range(6):
        happen()
    from django.db import connection

    def work() -> None:
        deliver_due()
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receiver.requests) == 6


def test_webhooks__limited_key__sees_and_hears_of_its_endpoints_alone(
    alice: Api, carol: Api, receiver: Receiver
) -> None:
    endpoint_of("hers", static_model("x", "1"))
    assert carol.post(WEBHOOKS, {"name": "mine", "url": receiver.url}).status == 201
    assert alice.post(WEBHOOKS, {"name": "all", "url": receiver.url, "events": ["experiment.started"]}).status == 201
    assert [row["name"] for row in carol.get(WEBHOOKS).body["items"]] == ["mine"]
    assert carol.get(f"{WEBHOOKS}/all").status == 404
    Delivery.objects.all().delete()
    happen(endpoint="hers")
    happen(endpoint="pages")
    assert [row.body["endpoint"] for row in Delivery.objects.filter(webhook__name="mine")] == ["hers"]
    assert alice("DELETE", f"{WEBHOOKS}/mine").status == 204
    assert Webhook.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "http://user:password@example.com"}, "url"),
        ({"url": "no address"}, "url"),
        ({"url": "http://[1"}, "url"),
        ({"url": "http://h:99999/"}, "url"),
        ({"url": "http://h:0/"}, "url"),
        ({"url": "http://h:port/"}, "url"),
        ({"events": []}, "events"),
        ({"events": ["Everything"]}, "events[0]"),
        ({"name": "No"}, "name"),
    ],
)
def test_webhooks__wrong__names_the_field(alice: Api, change: dict[str, Any], field: str) -> None:
    answer = alice.post(WEBHOOKS, {"name": "ops", "url": "https://example.com/hook"} | change)
    assert (answer.status, answer.fields()) == (400, [field])
    assert alice.post(WEBHOOKS, {"name": "ops", "url": "https://example.com/hook"}).status == 201
    assert alice.post(WEBHOOKS, {"name": "ops", "url": "https://example.com/hook"}).status == 409


PRIVATE = [
    "http://127.0.0.1/",
    "http://10.1.2.3/",
    "http://192.168.0.1:8080/",
    "http://169.254.169.254/latest/meta-data",
    "http://[::1]/",
    "http://[fd00::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://0.0.0.0/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://localhost/",
    "http://224.0.0.1/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b:1::a00:1]/",
    "http://[::7f00:1]/",
    "http://[::ffff:0:7f00:1]/",
    "http://[fec0::1]/",
    "http://[2002:7f00:1::]/",
    "http://[2a00::5efe:a00:1]/",
    "http://[3fff::1]/",
    "http://[5f00::1]/",
    "http://192.88.99.1/",
    "http://192.0.0.9/",
    "http://100.64.0.1/",
    "http://168.63.129.16/",
    "http://255.255.255.255/",
]


@pytest.mark.skipif(
    not shutil.which("unshare") or os.getuid() != 0, reason="needs a network namespace of its own, as root"
)
def test_addresses__that_are_not_of_the_internet__are_refused__where_nothing_can_leave() -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "from serving.outbound.addresses import AddressRefused, resolve\n"
        f"for url in {PRIVATE!r}:\n"
        "    try:\n"
        "        print('ALLOWED', resolve(url, allow_private=False))\n"
        "    except AddressRefused as refusal:\n"
        "        print('refused', refusal)\n"
        "    except OSError as error:\n"
        "        print('unresolved', url, error)\n"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", program, str(root), str(root / "platform")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = found.stdout.splitlines()
    assert len(lines) == len(PRIVATE)
    assert all(line.startswith(("refused", "unresolved")) for line in lines), found.stdout


def test_addresses__of_the_internet__are_pinned_and_keep_their_name() -> None:
    target = resolve("https://1.1.1.1:8443/a?b=c", allow_private=False)
    assert (target.url, target.host, target.hostname) == ("https://1.1.1.1:8443/a?b=c", "1.1.1.1:8443", "1.1.1.1")
    with pytest.raises(AddressRefused):
        resolve("http://127.0.0.1/", allow_private=False)
    assert resolve("http://[64:ff9b::101:101]/", allow_private=False).hostname == "64:ff9b::101:101"  # 1.1.1.1 by NAT64
    assert resolve("http://[2606:4700::1111]/", allow_private=False).hostname == "2606:4700::1111"


def test_webhook__private_address__is_never_called(alice: Api, settings: Any) -> None:
    receiver = Receiver()
    settings.WEBHOOK_PRIVATE = False
    hook = {"name": "ops", "url": receiver.url, "events": ["guardrail.acted"]}
    answer = alice.post(WEBHOOKS, hook)
    assert (answer.status, answer.fields()) == (400, ["url"])
    settings.WEBHOOK_PRIVATE = True  # its name was of the internet when it was made, and is not any more
    assert alice.post(WEBHOOKS, hook).status == 201
    settings.WEBHOOK_PRIVATE = False
    happen()
    assert deliver_due() == 0
    assert receiver.requests == []
    assert "not an address of the internet" in Delivery.objects.get().problem
    receiver.server.shutdown()
    receiver.server.server_close()


class Mailbox(socketserver.StreamRequestHandler):
    """Just enough of SMTP to take a message."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            command = line[:4].upper()
            if command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                message = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    message += part
                self.server.mails.append(message)  # type: ignore[attr-defined]  # given below
            self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")
            if command == b"QUIT":
                return


def test_mail__to_the_operators__of_what_was_done_without_them(settings: Any) -> None:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox)
    server.mails = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address
    settings.ALERT_EMAILS = ("ops@example.com",)
    happen()
    happen("experiment.started")
    assert deliver_due() == 1
    (mail,) = server.mails  # type: ignore[attr-defined]
    assert b"Subject: [noregret] guardrail.acted: e" in mail
    assert b"To: ops@example.com" in mail
    assert b"reason: because" in mail
    server.shutdown()
    server.server_close()
    happen()
    assert deliver_due() == 0
    assert "refused" in Delivery.objects.filter(state="waiting").get().problem
    assert deliver.ROUND_SECONDS < CLAIMED_SECONDS
