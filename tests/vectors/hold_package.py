"""Holds an installed package against the shared vectors: run by an interpreter that has numpy and
the package alone. Prints, as JSON, how many it was asked and the first that it chose otherwise.
"""

import importlib
import json
import sys
from pathlib import Path


def main(package: str, file: str) -> None:
    frozen = importlib.import_module(f"{package}.serving.packaged.frozen")
    choosing = importlib.import_module(f"{package}.serving.choosing")
    asked, otherwise, furthest = 0, [], 0.0
    for case in json.loads(Path(file).read_text())["cases"]:
        left, arms = [], {}

        class Kept:
            def known(self, experiment_id, unit, ids):
                return None

            def get(self, endpoint, experiment_id, unit, proposed, ids, arms=arms):
                kept = arms.get(unit)
                if kept is None or kept.arm_id not in ids:
                    kept = arms[unit] = proposed
                return kept

        live = frozen.thaw(case["snapshot"], Path(), lambda left=left: left.pop(0))
        for vector in case["vectors"]:
            left[:] = vector["draws"]
            found = choosing.route(Kept(), live, vector["unit"], vector["context"], vector["exclude"])
            expected, asked = vector["expected"], asked + 1
            arm = found.seat.arm if found.by_arm else None
            pairs = zip(found.propensities, expected["propensities"], strict=True)
            away = max(abs(a - b) for a, b in pairs)
            furthest = max(furthest, away)
            if (arm, found.holdout, found.by_arm) != tuple(
                expected[k] for k in ("arm", "holdout", "by_arm")
            ) or away > 1e-12:
                otherwise.append([case["name"], vector, arm, list(found.propensities)])
    foreign = sorted({name.split(".")[0] for name in sys.modules} & {"scipy", "msgspec", "django", "redis", "bandits"})
    sys.stdout.write(json.dumps({"asked": asked, "otherwise": otherwise[:3], "furthest": furthest, "foreign": foreign}))


main(**json.loads(sys.argv[-1]))
