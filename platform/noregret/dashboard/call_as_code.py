"""A call of the API as curl, Python and JavaScript. Each runs as it stands, with nothing installed
but the language; the key comes from the environment."""

import json
import pprint
import shlex
from typing import Any, NamedTuple

KEY_VARIABLE = "NOREGRET_KEY"


class Code(NamedTuple):
    """The call in one language."""

    language: str
    text: str


def as_code(url: str, body: dict[str, Any]) -> list[Code]:
    """POST `body` to `url`, in each language."""
    return [
        Code("curl", _curl(url, body)),
        Code("Python", _python(url, body)),
        Code("JavaScript", _javascript(url, body)),
    ]


def experiment_as_code(address: str, document: dict[str, Any], *, change: bool) -> list[Code]:
    """Make an experiment from its document, or `change` its draft: as curl, and as Python with
    noregret-client."""
    path = f"/api/v1/experiments/{document.get('name', '')}" if change else "/api/v1/experiments"
    call = (
        f'client.call("PUT", {path!r}, document)'
        if change
        else "client.create_experiment(document)  # start=True: at once"
    )
    python = f"""from noregret_client import Client

document = {pprint.pformat(document, sort_dicts=False, width=88, compact=True)}
with Client({address!r}) as client:  # the key: {KEY_VARIABLE} of the environment
    {call}"""
    return [Code("curl", _curl(address + path, document, "PUT" if change else "")), Code("Python", python)]


def _curl(url: str, body: dict[str, Any], method: str = "") -> str:
    return "\n".join(
        (
            f"curl {f'-X {method} ' if method else ''}{shlex.quote(url)} \\",
            f'  -H "Authorization: Bearer ${KEY_VARIABLE}" -H "Content-Type: application/json" \\',
            f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}",
        )
    )


def _python(url: str, body: dict[str, Any]) -> str:
    return f"""import json
from os import environ
from urllib.request import Request, urlopen

body = {pprint.pformat(body, sort_dicts=False, width=88, compact=True)}
headers = {{
    "Authorization": "Bearer " + environ["{KEY_VARIABLE}"],
    "Content-Type": "application/json",
}}
request = Request({url!r}, json.dumps(body).encode(), headers)
with urlopen(request, timeout=10) as answer:
    print(json.load(answer))"""


def _javascript(url: str, body: dict[str, Any]) -> str:
    return f"""const body = {_rows(body)};
const answer = await fetch({json.dumps(url)}, {{
  method: "POST",
  headers: {{
    Authorization: `Bearer ${{process.env.{KEY_VARIABLE}}}`,
    "Content-Type": "application/json",
  }},
  body: JSON.stringify(body),
}});
console.log(await answer.json());"""


def _rows(body: dict[str, Any]) -> str:
    """As JSON, a value a line: a row of numbers is read as one."""
    values = (f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in body.items())
    return "{\n" + ",\n".join(values) + "\n}" if body else "{}"
