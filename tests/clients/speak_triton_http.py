"""tritonclient over HTTP with its defaults, and with what it can be told. Prints what it heard."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

given = json.loads(sys.argv[-1])
client = triton.InferenceServerClient(given["address"])
HEADERS = {"Authorization": f"Bearer {given['key']}"}
ROWS = np.array(given["rows"])


def tensor(name, array, datatype, binary=True):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def heard(result):
    outputs = [output["name"] for output in result.get_response()["outputs"]]
    arrays = {name: result.as_numpy(name) for name in outputs}
    return {
        "response": result.get_response(),
        "arrays": {name: [text(value) for value in array.tolist()] for name, array in arrays.items()},
    }


def text(value):
    """BYTES are bytes to tritonclient where they came as binary, and str where in JSON."""
    return value.decode() if isinstance(value, bytes) else value


def infer(inputs, **more):
    return heard(client.infer(given["endpoint"], inputs, headers=dict(HEADERS), **more))


def refused(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


matrix = tensor("input", ROWS, "FP64")
columns = [tensor(name, ROWS[:, [i]].astype("f4"), "FP32") for i, name in enumerate(given["names"])]
two = triton.InferRequestedOutput("predict", binary_data=False), triton.InferRequestedOutput("predict_proba")
print(
    json.dumps(
        {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready(given["endpoint"], headers=HEADERS),
            "other_ready": client.is_model_ready("nowhere", headers=HEADERS),
            "server": client.get_server_metadata(),
            "metadata": client.get_model_metadata(given["endpoint"], headers=HEADERS),
            "defaults": infer([matrix], request_id="r-7", parameters=given["parameters"]),
            "columns": infer(columns),
            "json": infer([tensor("input", ROWS, "FP64", binary=False)], outputs=two),
            "gzip": infer([matrix], request_compression_algorithm="gzip"),
            "deflate": infer([matrix], request_compression_algorithm="deflate"),
            "version": infer([matrix], model_version=given["version"]),
            "no_version": refused(lambda: infer([matrix], model_version="9")),
            "no_key": refused(lambda: client.infer(given["endpoint"], [matrix])),
            "no_endpoint": refused(lambda: client.infer("nowhere", [matrix], headers=dict(HEADERS))),
            "wrong_shape": refused(lambda: infer([tensor("input", ROWS[:, :3].copy(), "FP64")])),
            "wrong_type": refused(lambda: infer([tensor("input", np.array([["x"] * 4], dtype=object), "BYTES")])),
            "wrong_name": refused(lambda: infer([*columns[:3], tensor("other", ROWS[:, [3]].copy(), "FP64")])),
            "no_output": refused(lambda: infer([matrix], outputs=[triton.InferRequestedOutput("none")])),
            "too_large": refused(lambda: infer([tensor("input", np.zeros((40_000, 4)), "FP64")])),
            "no_such_call": refused(lambda: client.get_model_repository_index()),
        }
    )
)
