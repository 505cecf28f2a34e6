"""Reads a compose file by the Compose Specification: an unknown field, a wrong value or a name that
is not defined is refused.

Argument: `{"file": {...}}`, its content with variables and merge keys filled in. Prints
`services`, or the `error`.
"""

import json
import sys

from compose_spec import PyCompose

try:
    compose = PyCompose.from_json(json.dumps(json.loads(sys.argv[-1])["file"]))
    compose.validate()
    print(json.dumps({"services": compose.service_names()}))
except ValueError as error:
    print(json.dumps({"error": str(error)}))
