"""One run of the benchmark: the platform and its peers, started, loaded in rounds, and told in
figures."""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noregret.demo.client import Client
from noregret.embedded.running import RunningPlatform
from noregret.package_path import command, python_path
from noregret.variables import DATA_DIR

from . import peers
from .control_calls import ResultsCalls
from .cores import Cores
from .figures import Value
from .irises import irises
from .load import Measured, load
from .noop_server import noop_server
from .open_loop import load_at
from .rounds import ROUNDS, Load, Rounds, ratios
from .scenario import BATCH, EXPERIMENT, Scenario, all_but_web, prepare, register_models, web_memory_mb

OPEN_CONNECTIONS = 64
"""Connections of loads at a fixed rate: enough that a request waits for the service, not for one of
them."""
INSIDE_SECONDS = 3600.0
PLOT_SHARES = (0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked of a run. `seconds` for each load, over all rounds."""

    seconds: float = 10.0
    connections: int = 8
    arms: int = 3
    history_rows: int = 1_000_000
    ingest_rows: int = 100_000
    endpoints: int = 1000
    models: int = 10
    peers: Sequence[str] = ()
    plot: bool = False
    profile: bool = False

    @classmethod
    def quick(cls, **given: Any) -> "Settings":
        """A run of less than a minute: it shows that all works, and its figures are rough."""
        small = {"seconds": 1.0, "history_rows": 40_000, "ingest_rows": 10_000, "endpoints": 50, "models": 3}
        return cls(**(small | given))


@dataclass(slots=True)
class Report:
    """What a run found. `rounds` are the main ones.

    `plot`: by load, points of share of capacity, requests/s asked for, p50 and p99 in ms.
    """

    settings: Settings
    cores: str
    rounds: Rounds = field(default_factory=Rounds)
    values: dict[str, Value] = field(default_factory=dict)
    memory_mb: float = 0.0
    peers: dict[str, str] = field(default_factory=dict)
    """What became of each peer that was asked for: its version, or why it is not there."""
    plot: dict[str, list[tuple[float, float, float, float]]] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)
    """Milliseconds of predict's parts."""


class Run:
    """A run in a folder of its own. `cache`: where peers are installed. `tell` is told what is
    going on."""

    def __init__(self, settings: Settings, cache: Path, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._cache = cache
        self._tell = tell
        self._cores = Cores.of_this_machine()
        self._data = irises()
        self.report = Report(settings, self._cores.words)

    def __call__(self) -> Report:
        """Raises LoadFailed, CallFailed, StartFailed, subprocess.CalledProcessError."""
        folder = Path(tempfile.mkdtemp(prefix="noregret-bench-"))
        self._cores.take_load_core()
        try:
            self._tell("starting the platform")
            with _platform(folder / "platform", self._cores) as platform, contextlib.ExitStack() as stack:
                noop = stack.enter_context(noop_server(self._cores))
                running = list(self._peers(stack))
                key = _key(platform)
                client = stack.enter_context(contextlib.closing(Client(platform.url, key)))
                scenario = prepare(platform, client, key, self._data, self._settings.arms)
                _inside(platform, "begin-earlier", experiment=EXPERIMENT, rows=self._settings.history_rows)
                scenario.targets["noop"] = noop
                self._main(platform, scenario, running)
                if self._settings.plot:
                    self._curves(scenario)
                self._many_endpoints(platform, scenario, client)
                self._history(platform, scenario)
                if self._settings.profile:
                    self._tell("timing the parts of predict")
                    with self._cores.starting_services():
                        self.report.parts = _inside_json(platform, "noregret.bench.predict_parts", "--json")
            self._ingest(folder / "ingest")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return self.report

    def _peers(self, stack: contextlib.ExitStack) -> Iterator[peers.RunningPeer]:
        for name in self._settings.peers:
            peer, folder = peers.BY_NAME[name], self._cache / name
            try:
                self._tell(f"installing {peer.title}, unless it is there")
                version = peers.install(peer, folder, self._data)
                self._tell(f"starting {peer.title} {version}")
                running = stack.enter_context(peers.running(peer, folder, version, self._data, self._cores))
            except peers.PeerAbsent as absent:
                self.report.peers[name] = f"not measured: {absent}"
                self._tell(f"{peer.title} is left out: {absent}")
            else:
                self.report.peers[name] = version
                yield running

    def _closed(self, scenario: Scenario, name: str) -> Load:
        def run(seconds: float, _: Rounds) -> Measured:
            return load(scenario.targets[name], connections=self._settings.connections, seconds=seconds)

        return run

    def _half(self, scenario: Scenario, name: str) -> Load:
        def run(seconds: float, rounds: Rounds) -> Measured:
            rate = max(rounds.latest(name).per_second / 2, 1.0)
            return load_at(scenario.targets[name], rate=rate, connections=OPEN_CONNECTIONS, seconds=seconds)

        return run

    def _alone(self, platform: RunningPlatform, predict: Load) -> Load:
        def run(seconds: float, rounds: Rounds) -> Measured:
            with self._cores.moved_away(all_but_web(platform)):
                return predict(seconds, rounds)

        return run

    def _main(self, platform: RunningPlatform, scenario: Scenario, running: Sequence[peers.RunningPeer]) -> None:
        """Everything that needs nothing but a running platform."""
        calls = [0, 0]

        def with_results(seconds: float, rounds: Rounds) -> Measured:
            with ResultsCalls(scenario.host, scenario.port, scenario.key, EXPERIMENT) as callers:
                measured = predict(seconds, rounds)
            calls[0] += callers.answered
            calls[1] += callers.refused
            return measured

        loads: dict[str, Load] = {"noop": self._closed(scenario, "noop")}
        for peer in running:
            scenario.targets[peer.peer.name] = peer.target
            loads[peer.peer.name] = self._closed(scenario, peer.peer.name)
        for name in ("predict", "decide", "feedback", "feedback_batch", "predict_100_arms", "wsgi"):
            loads[name] = self._closed(scenario, name)
        predict = loads["predict"]
        loads["predict_half"] = self._half(scenario, "predict")
        loads["noop_half"] = self._half(scenario, "noop")
        if self._cores.service is not None:
            loads["predict_alone"] = self._alone(platform, predict)
        loads["predict_with_results"] = with_results
        rounds = self.report.rounds
        rounds.run(loads, self._settings.seconds, self._tell)
        self.report.memory_mb = web_memory_mb(platform)
        values, rate = self.report.values, rounds.per_second
        no_peer = "" if rate("fastapi") else "run with --peers fastapi"
        values["predict_to_fastapi"] = Value(ratios(rate("predict"), rate("fastapi")), no_peer)
        alone = no_peer or ("" if rate("predict_alone") else "nothing is pinned here")
        values["predict_alone_to_fastapi"] = Value(ratios(rate("predict_alone"), rate("fastapi")), alone)
        for name in ("predict", "decide", "feedback"):
            values[f"{name}_to_noop"] = Value(ratios(rate(name), rate("noop")))
        values["batched_rewards_to_predict"] = Value(ratios(rate("feedback_batch"), rate("predict"), BATCH))
        p99 = rounds.p99_ms
        values["half_load_p99_to_noop_p99"] = Value(ratios(p99("predict_half"), p99("noop_half")))
        values["predict_100_arms_to_3_arms"] = Value(
            ratios(rate("predict_100_arms"), rate("predict")),
            "" if self._settings.arms == 3 else f"to {self._settings.arms} arms",
        )
        values["predict_p99_with_results_to_without"] = Value(
            ratios(p99("predict_with_results"), p99("predict")),
            f"{calls[0]:,} results calls were answered, {calls[1]:,} refused",
        )
        values["predict_to_wsgi"] = Value(ratios(rate("predict"), rate("wsgi")))

    def _predict_to_noop(self, scenario: Scenario) -> float:
        """The median, now."""
        rounds = Rounds()
        loads = {name: self._closed(scenario, name) for name in ("noop", "predict")}
        rounds.run(loads, self._settings.seconds, self._tell)
        median = Value(ratios(rounds.per_second("predict"), rounds.per_second("noop"))).median
        assert median is not None
        return median

    def _many_endpoints(self, platform: RunningPlatform, scenario: Scenario, client: Client) -> None:
        settings = self._settings
        self._tell(f"making {settings.endpoints:,} endpoints")
        register_models(client, self._data, range(4, settings.models + 1))
        _inside(platform, "endpoints", count=settings.endpoints - 2, models=settings.models)
        before = self.report.values["predict_to_noop"].median
        assert before is not None
        now = self._predict_to_noop(scenario)
        note = "" if settings.endpoints == 1000 else f"with {settings.endpoints:,} endpoints"
        self.report.values["predict_1000_endpoints_to_1"] = Value((now / before,), note)
        models = "" if settings.models == 10 else f"and {settings.models} models"
        memory = Value((web_memory_mb(platform),), " ".join(filter(None, (note, models))))
        self.report.values["web_1000_endpoints_mb"] = memory

    def _history(self, platform: RunningPlatform, scenario: Scenario) -> None:
        settings = self._settings
        before = self._predict_to_noop(scenario)
        self._tell(f"writing {settings.history_rows:,} rows of history")
        written = _inside(platform, "history", experiment=EXPERIMENT, rows=settings.history_rows)
        self._tell("rebuilding what was learned of them")
        with self._cores.starting_services():
            rebuilt = _inside(platform, "rebuild", experiment=EXPERIMENT, rounds=ROUNDS)
        rows = f"{rebuilt['rows']:,} rows"
        self.report.values["rebuild_rows_per_s"] = Value(rebuilt["rows_per_second"], rows)
        now = self._predict_to_noop(scenario)
        self.report.values["predict_with_history_to_empty"] = Value((now / before,), f"{written['rows']:,} rows")

    def _ingest(self, folder: Path) -> None:
        """On servers of its own: a platform's worker would drain beside it."""
        self._tell("draining full streams")
        folder.mkdir(mode=0o755)
        environment = {DATA_DIR: str(folder), "NOREGRET_LOG_LEVEL": "ERROR", "NOREGRET_SECRET_KEY": "bench-" + "0" * 40}
        rows_a_round = str(self._settings.ingest_rows)
        with self._cores.starting_services():
            drained = _module(
                ["noregret.bench.inside_platform", "ingest", "--rows", rows_a_round, "--rounds", str(ROUNDS)],
                RunningPlatform(folder).environment | environment,
            )
        rows = f"{self._settings.ingest_rows:,} rows a round"
        self.report.values["ingest_rows_per_s"] = Value(drained["rows_per_second"], rows)

    def _curves(self, scenario: Scenario) -> None:
        """Latency at shares of what the service reached in the main rounds."""
        for name in ("predict", "noop"):
            capacity = Value(self.report.rounds.per_second(name)).median or 1.0
            self.report.plot[name] = []
            for share in PLOT_SHARES:
                self._tell(f"{name} at {share:.0%} of capacity")
                rate = max(share * capacity, 1.0)
                measured = load_at(
                    scenario.targets[name],
                    rate=rate,
                    connections=OPEN_CONNECTIONS,
                    seconds=self._settings.seconds / 4,
                )
                self.report.plot[name].append((share, rate, measured.percentile_ms(0.5), measured.percentile_ms(0.99)))


@contextlib.contextmanager
def _platform(folder: Path, cores: Cores) -> Iterator[RunningPlatform]:
    platform = RunningPlatform(folder)
    with cores.starting_services():
        platform.start()
    try:
        yield platform
    finally:
        platform.stop()


def _key(platform: RunningPlatform) -> str:
    asked = command("apikey", "bench", "--scopes", "predict,feedback,manage", "--data-dir", str(platform.data_dir))
    made = subprocess.run(asked, env=platform.environment, capture_output=True, text=True, timeout=60, check=True)
    return made.stdout.strip()


def _inside(platform: RunningPlatform, action: str, **options: object) -> dict[str, Any]:
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return _inside_json(platform, "noregret.bench.inside_platform", action, *given)


def _inside_json(platform: RunningPlatform, module: str, *arguments: str) -> dict[str, Any]:
    environment = platform.environment | {DATA_DIR: str(platform.data_dir), "NOREGRET_LOG_LEVEL": "ERROR"}
    return _module([module, *arguments], environment)


def _module(arguments: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    """What a module of ours prints last: a JSON object. Raises subprocess.CalledProcessError."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env=environment | python_path() | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=INSIDE_SECONDS,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
