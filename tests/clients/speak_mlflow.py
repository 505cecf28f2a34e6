"""MLflow's ScoringServerClient and deployments client. Prints what they heard."""

import json
import sys

import numpy as np
import pandas as pd
from mlflow.deployments import get_deploy_client
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

given = json.loads(sys.argv[-1])
host, port = given["address"].split(":")


def scoring(endpoint, key=given["key"]):
    """It takes nothing but a host and a port: the key is in the one, the address in the other."""
    return ScoringServerClient(f"noregret:{key}@{host}", f"{port}/endpoints/{endpoint}")


def refused(call):
    try:
        call()
    except Exception as error:  # it raises Exception itself
        return str(error)
    return None


client = scoring(given["endpoint"])
frame = pd.DataFrame(given["records"])
client.ping()
deployments = get_deploy_client(f"http://{given['address']}")
print(
    json.dumps(
        {
            "version": client.get_version(),
            "frame": client.invoke(frame, params={"unit": "u", "context": {"country": "KR"}}),
            "predictions": client.invoke(frame).get_predictions("ndarray").tolist(),
            "shuffled": client.invoke(frame[list(reversed(frame.columns))]),
            "array": client.invoke(np.array(given["rows"])),
            "deployments": deployments.predict(
                endpoint=given["endpoint"], inputs={"dataframe_records": given["records"]}
            ),
            "no_endpoint": refused(scoring("nowhere").ping),
            "no_key": refused(lambda: scoring(given["endpoint"], key="x").invoke(frame)),
            "no_column": refused(lambda: client.invoke(frame.iloc[:, :2])),
            "gap": refused(lambda: client.invoke(frame.mask(frame > 5))),
        }
    )
)
