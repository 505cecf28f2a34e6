"""What each part of a predict costs, in one thread: decode, key, route, model, append, sign,
encode.

python -m benchmarks.predict_parts: starts a platform of its own, and prints a table. `manage.py
bench --profile` tells the same of the platform that it loads.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from noregret.bench.irises import irises
from noregret.bench.scenario import prepare
from noregret.demo.client import Client
from noregret.embedded.running import RunningPlatform
from noregret.package_path import command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arms", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="noregret-parts-") as folder:
        # Its folder may be handed over to another user, who has to reach it.
        Path(folder).chmod(0o755)
        with RunningPlatform(Path(folder) / "platform") as platform:
            times = _times(platform, arguments.arms)
    sys.stdout.write("| part | ms | % |\n| --- | ---: | ---: |\n")
    for name, milliseconds in times.items():
        sys.stdout.write(f"| {name} | {milliseconds:.4f} | {100 * milliseconds / times['whole']:.1f} |\n")


def _times(platform: RunningPlatform, arms: int) -> dict[str, float]:
    data_dir = str(platform.data_dir)
    made = subprocess.run(
        command("apikey", "parts", "--scopes", "predict,manage", "--data-dir", data_dir),
        env=platform.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    with contextlib.closing(Client(platform.url, made.stdout.strip())) as client:
        prepare(platform, client, made.stdout.strip(), irises(), arms)
    timed = subprocess.run(
        [sys.executable, "-m", "noregret.bench.predict_parts", "--json"],
        env=platform.environment | {"NOREGRET_DATA_DIR": data_dir, "NOREGRET_LOG_LEVEL": "ERROR"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    times: dict[str, float] = json.loads(timed.stdout.splitlines()[-1])
    return times


if __name__ == "__main__":
    main()
