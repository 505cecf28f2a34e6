"""What shadows cost the champion: predict's latency on an endpoint with two bad challengers, beside
one without, in interleaved rounds.

python -m benchmarks.shadow_latency --rounds 6 --seconds 5
"""

import argparse
import shutil
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np

CONNECTIONS = 4
PER_SECOND = 60.0
"""Requests a second and connection: a steady load below what the machine can do, for past that
latency is only a queue."""


def load(url: str, key: str, endpoint: str, image: list[float], seconds: float) -> list[float]:
    """Latencies in ms of a round. Raises RuntimeError for an answer that is no 200."""
    found: list[float] = []
    problems: list[str] = []

    def client() -> None:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=10.0) as http:
            until = time.monotonic() + seconds
            following = time.monotonic()
            while time.monotonic() < until:
                began = time.perf_counter()
                answer = http.post(f"/api/v1/endpoints/{endpoint}/predict", json={"inputs": [image]})
                found.append((time.perf_counter() - began) * 1000.0)
                if answer.status_code != 200:
                    problems.append(answer.text)
                    return
                following += 1.0 / PER_SECOND
                time.sleep(max(0.0, following - time.monotonic()))

    threads = [threading.Thread(target=client) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise RuntimeError(problems[0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    # Imported here: they read the environment that Django needs.
    import django

    django.setup()
    import subprocess
    import sys

    from noregret.demo import digits, scenes
    from noregret.demo.client import Client
    from noregret.embedded.running import MANAGE, RunningPlatform

    folder = Path(tempfile.mkdtemp(prefix="noregret-shadow-"))
    data = digits.load(0)
    environment = {"NOREGRET_PYTHON_CALLABLES": "benchmarks.challengers.*", "NOREGRET_SECRET_KEY": ""}
    try:
        with RunningPlatform(folder, environment=environment) as platform:
            command = [sys.executable, str(MANAGE), "apikey", "bench", "--scopes", "predict,feedback,manage"]
            key = subprocess.run(
                [*command, "--data-dir", str(folder)], capture_output=True, text=True, timeout=60, check=True
            ).stdout.strip()
            client = Client(platform.url, key)
            scenes.register(client, data.candidates)
            arms = []
            for name in ("sleeps", "leaks"):
                made = {
                    "name": name,
                    "version": "1",
                    "framework": "python",
                    "callable": f"benchmarks.challengers.{name}",
                }
                client.post("/api/v1/models", made)
                arms.append({"name": name, "model": f"{name}@1"})
            for endpoint in ("single", "shadowed"):
                client.post("/api/v1/endpoints", {"name": endpoint, "champion": "digits@3"})
            client.post(
                "/api/v1/experiments", {"name": "s", "endpoint": "shadowed", "strategy": "shadow", "arms": arms}
            )
            client.post("/api/v1/experiments/s/start", {})
            image = data.images[0].tolist()
            latencies: dict[str, list[float]] = {"single": [], "shadowed": []}
            for endpoint in latencies:
                load(platform.url, key, endpoint, image, 2.0)
            for _ in range(arguments.rounds):
                for endpoint, found in latencies.items():
                    found.extend(load(platform.url, key, endpoint, image, arguments.seconds))
            results = client.get("/api/v1/experiments/s/results")
            for endpoint, found in latencies.items():
                p50, p99 = np.quantile(found, [0.5, 0.99])
                print(f"{endpoint:9} {len(found):7,} requests  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms")  # noqa: T201
            ratio = float(np.quantile(latencies["shadowed"], 0.99) / np.quantile(latencies["single"], 0.99))
            print(f"p99 with shadows to p99 without: {ratio:.2f}")  # noqa: T201
            for arm in results["arms"]:
                if arm["shadow"]:
                    seen, failed = arm["shadow"]["predictions"], arm["shadow"]["errors"]
                    print(f"{arm['name']}: {seen} predictions, {failed} errors")  # noqa: T201
            client.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
