"""What Prometheus and the log read of a consumer."""

from prometheus_client import Counter, Gauge

MESSAGES = Counter(
    "noregret_stream_messages_total",
    "Messages that a consumer was done with, by endpoint and outcome: answered, repeated (another message asked the same), "
    "set_aside, lost (the source had dropped it).",
    ["endpoint", "outcome"],
)
CLAIMED = Counter(
    "noregret_stream_claimed_total", "Messages taken over from consumers that left them, by group.", ["group"]
)
WAITS = Counter(
    "noregret_stream_waits_total",
    "How often a consumer paused, by endpoint and what it waited for: engine, full, ledger, kept, sink, backlog, endpoint, model.",
    ["endpoint", "reason"],
)
LAG = Gauge(
    "noregret_stream_lag",
    "Messages of the source that nobody has answered yet, by endpoint.",
    ["endpoint"],
    multiprocess_mode="mostrecent",
)
