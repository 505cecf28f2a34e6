"""A job of Apache Flink that predicts, in an environment that has PyFlink, with the client's source
on PYTHONPATH: `count` requests, `rate` a second, their answers into files below `folder`."""

import json
import sys

from noregret_client.flink import predict_function
from pyflink.common import Configuration
from pyflink.table import EnvironmentSettings, TableEnvironment

GIVEN = json.loads(sys.argv[-1])


def main() -> None:
    settings = Configuration()
    for name, value in {
        "execution.checkpointing.interval": "2 s",
        "execution.checkpointing.dir": f"file://{GIVEN['folder']}/checkpoints",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "20",
        "restart-strategy.fixed-delay.delay": "2 s",
        "parallelism.default": "1",
        "python.fn-execution.arrow.batch.size": "50",
        "python.fn-execution.bundle.size": "100",
        "python.fn-execution.bundle.time": "500",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
    }.items():
        settings.set_string(name, value)
    tables = TableEnvironment.create(
        EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(settings).build()
    )
    tables.create_temporary_function(
        "predict", predict_function(GIVEN["endpoint"], url=GIVEN["url"], key=GIVEN["key"], timeout=60.0)
    )
    tables.execute_sql(
        "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'fields.n.kind' = 'sequence', "
        f"'fields.n.start' = '0', 'fields.n.end' = '{GIVEN['count'] - 1}', 'rows-per-second' = '{GIVEN['rate']}')"
    )
    tables.execute_sql(
        f"CREATE TABLE answers (answer STRING) WITH ('connector' = 'filesystem', "
        f"'path' = 'file://{GIVEN['folder']}/answers', 'format' = 'raw')"
    )
    name = GIVEN["name"]
    request = f"""'{{"request_id": "{name}-' || CAST(n AS STRING) || '", "unit": "{name}-' || CAST(n AS STRING)
        || '", "inputs": [[' || CAST(n AS STRING) || ']]}}'"""
    insert = f"INSERT INTO answers SELECT predict({request}) FROM numbers"  # noqa: S608 - nobody else's words
    tables.execute_sql(insert)  # the cluster runs it: whoever waited here would see only its end


if __name__ == "__main__":
    main()
