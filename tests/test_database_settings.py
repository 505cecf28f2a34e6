"""What `DATABASE_URL` may say, and how many connections follow from the settings."""

from typing import Any

import psycopg
import pytest
from noregret.env import POSTGRES_SOCKETS, BadEnvironment, Environment, socket_dir
from noregret.settings.database import parse

from serving.ledger.rewards import LedgerUnavailable, RewardWriter
from tests.engines import DATA_DIR

SECRET = {"NOREGRET_SECRET_KEY": "0123456789abcdef" * 2}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://u:p%40ss@one:5432,two:5433/db?target_session_attrs=read-write&options=-c%20search_path%3Dx",
            {
                "NAME": "db",
                "USER": "u",
                "PASSWORD": "p@ss",
                "HOST": "one,two",
                "PORT": "5432,5433",
                "OPTIONS": {"target_session_attrs": "read-write", "options": "-c search_path=x"},
            },
        ),
        (
            "postgres://h",
            {"NAME": "noregret", "USER": "", "PASSWORD": "", "HOST": "h", "PORT": "", "OPTIONS": {}},
        ),
        (
            "postgresql://u@[::1]:6432/db?sslmode=require",
            {
                "NAME": "db",
                "USER": "u",
                "PASSWORD": "",
                "HOST": "::1",
                "PORT": "6432",
                "OPTIONS": {"sslmode": "require"},
            },
        ),
        (
            "postgresql://postgres@/noregret?host=%2Frun%2Fa",
            {"NAME": "noregret", "USER": "postgres", "PASSWORD": "", "HOST": "/run/a", "PORT": "", "OPTIONS": {}},
        ),
    ],
)
def test_address__as_libpq_reads_it__becomes_settings(url: str, expected: dict[str, Any]) -> None:
    assert parse(url) == expected | {"ENGINE": "noregret.database"}


@pytest.mark.parametrize("url", ["mysql://u:s3cret@h/db", "postgresql://u:s3cret%zz@h/db", "s3cret"])
def test_address__that_cannot_be_read__is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="DATABASE_URL") as refused:
        parse(url)
    assert "s3cret@" not in str(refused.value)
    assert "zz" not in str(refused.value)


def _writer(query: str) -> tuple[RewardWriter, str]:
    database = parse(f"postgresql://postgres@/postgres?{query}")
    writer = RewardWriter(database, size=1)
    return writer, writer._address


def test_address__several_hosts_and_options__reach_the_server_that_answers(engines: None) -> None:
    sockets = socket_dir(DATA_DIR) / POSTGRES_SOCKETS
    writer, address = _writer(
        f"host=/nowhere,{sockets}&target_session_attrs=read-write&options=-c%20search_path%3Dnone"
    )
    try:
        with psycopg.connect(address) as connection:
            row = connection.execute("SHOW search_path").fetchone()
        assert row == ("none",)
        with pytest.raises(LedgerUnavailable, match='relation "serving_reward" does not exist'):
            writer.probe()  # connected, in a database without tables
    finally:
        writer.close()


def test_probe__server_that_only_reads__says_so(engines: None) -> None:
    sockets = socket_dir(DATA_DIR) / POSTGRES_SOCKETS
    writer, _ = _writer(f"host={sockets}&target_session_attrs=standby")
    try:
        with pytest.raises(LedgerUnavailable, match="server is not in hot standby mode"):
            writer.probe()
    finally:
        writer.close()


def test_connections__of_a_web_process__are_bounded_by_one_setting() -> None:
    assert Environment.read(SECRET).database_connections == 16
    assert Environment.read(SECRET | {"NOREGRET_BLOCKING_THREADS": "4"}).database_connections == 8
    few = SECRET | {"NOREGRET_BLOCKING_THREADS": "4", "NOREGRET_DATABASE_CONNECTIONS": "5"}
    assert Environment.read(few).database_connections == 5
    assert Environment.read(SECRET | {"NOREGRET_BLOCKING_THREADS": "1"}).database_connections == 4
    with pytest.raises(BadEnvironment, match="NOREGRET_DATABASE_CONNECTIONS"):
        Environment.read(few | {"NOREGRET_DATABASE_CONNECTIONS": "3"})
