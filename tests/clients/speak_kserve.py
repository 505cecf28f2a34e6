"""kserve's InferenceRESTClient. Prints what it heard."""

import asyncio
import json
import sys

import numpy as np
from httpx import HTTPStatusError
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

given = json.loads(sys.argv[-1])
BASE = f"http://{given['address']}"
HEADERS = {"X-API-Key": given["key"]}
ROWS = np.array(given["rows"])


def request(rows, binary):
    tensor = InferInput("input", list(rows.shape), "FP64")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    parameters = given["parameters"]
    return InferRequest(given["endpoint"], [tensor], request_id="k-1", parameters=parameters)


async def main():
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:

        async def infer(binary, rows=ROWS):
            answer = await client.infer(BASE, request(rows, binary), given["endpoint"], headers=dict(HEADERS))
            return {
                "id": answer.id,
                "parameters": answer.parameters,
                "arrays": {output.name: output.as_numpy().tolist() for output in answer.outputs},
            }

        async def refused(call):
            try:
                await call
            except HTTPStatusError as error:
                return [error.response.status_code, str(error)]
            return None

        return {
            "live": await client.is_server_live(BASE),
            "ready": await client.is_server_ready(BASE),
            "model_ready": await client.is_model_ready(BASE, given["endpoint"], headers=HEADERS),
            "other_ready": await client.is_model_ready(BASE, "nowhere", headers=HEADERS),
            "json": await infer(False),
            "binary": await infer(True),
            "no_endpoint": await refused(client.infer(BASE, request(ROWS, False), "nowhere", headers=dict(HEADERS))),
            "wrong_shape": await refused(infer(False, ROWS[:, :2].copy())),
        }


print(json.dumps(asyncio.run(main()), default=str))
