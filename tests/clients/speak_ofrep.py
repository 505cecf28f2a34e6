"""openfeature-sdk with its OFREP provider. Prints what it heard."""

import json
import sys
from dataclasses import asdict

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

given = json.loads(sys.argv[-1])


def client_with(key):
    base = f"http://{given['address']}"
    api.set_provider_and_wait(OFREPProvider(base, headers_factory=lambda: {"Authorization": f"Bearer {key}"}))
    return api.get_client()


def told(details):
    return {name: value for name, value in asdict(details).items() if name != "flag_type"}


client = client_with(given["key"])
context = EvaluationContext("user-1", {"country": "KR", "age": 31, "tags": ["a"], "nested": {"a": 1}})
heard = {
    "object": told(client.get_object_details("pages", {}, context)),
    "no_context": told(client.get_object_details("pages", {})),
    "single": told(client.get_string_details("plain", "default")),
    "no_payload": told(client.get_string_details("model", "default")),
    "wrong_type": told(client.get_boolean_details("plain", False)),
    "no_flag": told(client.get_boolean_details("nowhere", True)),
    "wrong_context": told(client.get_object_details("pages", {}, EvaluationContext("u", {"country": 3}))),
    "long_unit": told(client.get_object_details("pages", {}, EvaluationContext("u" * 300))),
}
heard["no_key"] = told(client_with("x").get_string_details("plain", "default"))
print(json.dumps(heard))
