"""tritonclient over gRPC with its defaults, and what its stubs can send beside. Prints what it
heard."""

import json
import sys

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

given = json.loads(sys.argv[-1])
client = triton.InferenceServerClient(given["address"])
HEADERS = {"authorization": f"Bearer {given['key']}"}
ROWS = np.array(given["rows"])


def tensor(name, array, datatype):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def value_of(parameter):
    return getattr(parameter, parameter.WhichOneof("parameter_choice"))


def heard(result):
    response = result.get_response()
    arrays = {output.name: result.as_numpy(output.name).tolist() for output in response.outputs}
    texts = {
        name: [value.decode() if isinstance(value, bytes) else value for value in array]
        for name, array in arrays.items()
    }
    return {
        "id": response.id,
        "model": [response.model_name, response.model_version],
        "parameters": {name: value_of(parameter) for name, parameter in response.parameters.items()},
        "arrays": texts,
    }


def infer(inputs, endpoint=given["endpoint"], **more):
    return heard(client.infer(endpoint, inputs, headers=HEADERS, **more))


def refused(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    except grpc.RpcError as error:
        return [f"StatusCode.{error.code().name}", error.details()]
    return None


def typed(**contents):
    request = service_pb2.ModelInferRequest(model_name=given["typed"])
    for name, (datatype, field, values) in contents.items():
        sent = request.inputs.add(name=name, datatype=datatype, shape=[len(values), 1])
        getattr(sent.contents, field).extend(values)
    return request


stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(given["address"]))
METADATA = [("x-api-key", given["key"])]


def send(request):
    return stub.ModelInfer(request, metadata=METADATA, timeout=20)


COLUMNS = {
    "city": ("BYTES", "bytes_contents", [b"Seoul", "Łódź".encode()]),
    "age": ("INT32", "int_contents", [31, 7]),
    "vip": ("BOOL", "bool_contents", [True, False]),
    "score": ("FP32", "fp32_contents", [0.5, 2.5]),
}
matrix = tensor("input", ROWS, "FP64")
short = service_pb2.ModelInferRequest(model_name=given["endpoint"], raw_input_contents=[b"\0" * 8])
short.inputs.add(name="input", datatype="FP64", shape=[1, 4])
lying = service_pb2.ModelInferRequest(model_name=given["endpoint"], raw_input_contents=[b"\0" * 8, b"\0" * 8])
lying.inputs.add(name="input", datatype="FP64", shape=[1, 1])
overflowing = service_pb2.ModelInferRequest(model_name=given["endpoint"], raw_input_contents=[b""])
overflowing.inputs.add(name="input", datatype="FP64", shape=[2**62, 2**62])
negative = service_pb2.ModelInferRequest(model_name=given["endpoint"], raw_input_contents=[b""])
negative.inputs.add(name="input", datatype="FP64", shape=[-1, -4])
many = service_pb2.ModelInferRequest(model_name=given["endpoint"])
for _ in range(100_000):
    many.inputs.add()
bomb = service_pb2.ModelInferRequest(model_name=given["endpoint"], raw_input_contents=[b"\0" * 200_000_000])
bomb_channel = grpc.insecure_channel(
    given["address"], options=[("grpc.max_send_message_length", -1)], compression=grpc.Compression.Gzip
)
metadata = client.get_model_metadata(given["endpoint"], headers=HEADERS)
heard_all = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": client.is_model_ready(given["endpoint"], headers=HEADERS),
    "server": client.get_server_metadata().name,
    "metadata": {
        "name": metadata.name,
        "versions": list(metadata.versions),
        "inputs": [[one.name, one.datatype, list(one.shape)] for one in metadata.inputs],
        "outputs": [[one.name, one.datatype, list(one.shape)] for one in metadata.outputs],
    },
    "defaults": infer([matrix], request_id="g-1", parameters=given["parameters"]),
    "compressed": infer([matrix], compression_algorithm="gzip"),
    "one_output": infer([matrix], outputs=[triton.InferRequestedOutput("predict")]),
    "version": infer([matrix], model_version="2"),
    "typed": list(heard(triton.InferResult(send(typed(**COLUMNS))))["arrays"]["predict"]),
    "no_key": refused(lambda: client.infer(given["endpoint"], [matrix])),
    "no_endpoint": refused(lambda: infer([matrix], endpoint="nowhere")),
    "no_version": refused(lambda: infer([matrix], model_version="9")),
    "wrong_shape": refused(lambda: infer([tensor("input", ROWS[:, :3].copy(), "FP64")])),
    "wrong_type": refused(lambda: send(typed(**(COLUMNS | {"age": ("FP64", "fp64_contents", [0.5, 1.0])})))),
    "no_text": refused(lambda: send(typed(**(COLUMNS | {"city": ("BYTES", "bytes_contents", [b"\xff", b""])})))),
    "short": refused(lambda: send(short)),
    "lying": refused(lambda: send(lying)),
    "overflowing": refused(lambda: send(overflowing)),
    "negative": refused(lambda: send(negative)),
    "many": refused(lambda: send(many)),
    "too_large": refused(lambda: infer([tensor("input", np.zeros((40_000, 4)), "FP64")])),
    "bomb": refused(
        lambda: service_pb2_grpc.GRPCInferenceServiceStub(bomb_channel).ModelInfer(bomb, metadata=METADATA, timeout=30)
    ),
    "no_such_call": refused(lambda: client.get_inference_statistics()),
    "after": infer([matrix])["model"][0],
}
print(json.dumps(heard_all))
