"""The forecaster's endpoint beside other ways to serve the same model, in one run on one machine.

    .venv/bin/python benchmarks/serving.py
    .venv/bin/python benchmarks/serving.py --seconds 10 --part rivals

Prints the tables and writes them to generated/benchmarks/serving.json; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime

import pandas as pd

from workshop_lib.checkpoints import machine
from workshop_lib.files import write_text
from workshop_lib.serving import runtimes
from workshop_lib.serving import side_by_side as lab
from workshop_lib.serving.load import Load, measure, table
from workshop_lib.settings import settings

PARTS = ("rivals", "variants", "runtimes")


def rivals(forest: lab.Scratch, seconds: float) -> dict[str, pd.DataFrame]:
    """Closed loops on every server, and an open loop at half of the most that the endpoint did."""
    row = forest.rows[:1]
    with lab.serving([*lab.rivals(forest), lab.course(None, f"{lab.COURSE}, champion")]) as servers:
        lab.check_answers([server for server in servers if "champion" not in server.label], forest.rows[:3])
        loads = lab.side_by_side(servers, row, seconds)
        course = servers[0]
        half = loads[0].per_second / 2
        calm = measure(course.target(row), rate=half, seconds=seconds, pid=course.pid, label="at half of the most")
    return {"side by side": table(loads), "open loop": table([calm]), "against the targets": targets(loads, calm)}


def targets(loads: Sequence[Load], calm: Load) -> pd.DataFrame:
    """What the course promises, and what came out: by answers per second, and by processor time per request."""
    limits, found = settings.thresholds, {load.label: load for load in loads}
    rows = {}
    for name, least in (
        (lab.MLFLOW, limits.endpoint_over_mlflow),
        (lab.MLFLOW_ONNX, limits.endpoint_over_mlflow_onnx),
        (lab.CEILING, limits.endpoint_of_ceiling),
    ):
        ours, other = found[lab.COURSE], found[name]
        rows[f"over {name}"] = (least, ours.per_second / other.per_second, other.cpu_ms / ours.cpu_ms)
    rows["P99 ms at half, at most"] = (limits.endpoint_p99_ms, calm.ms["P99"], float("nan"))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["target", "by requests/s", "by CPU time"])


def variants(forest: lab.Scratch, seconds: float) -> dict[str, pd.DataFrame]:
    """The KServe SDK, changed in one thing at a time."""
    with lab.serving(lab.variants(forest)) as servers:
        lab.check_answers(servers, forest.rows[:3])
        return {"one change at a time": table(lab.side_by_side(servers, forest.rows[:1], seconds))}


def batches(forest: lab.Scratch, seconds: float) -> dict[str, pd.DataFrame]:
    """Both runtimes by rows per request: alone, and through the server with one and two requests under way."""
    alone = runtimes.in_process(forest.rows, (1, *runtimes.BATCHES))
    found = {"rows/s in process": alone}
    crossing = {"in process": runtimes.crossover(alone)}
    with lab.serving(runtimes.one_runtime_each(forest)) as servers:
        for connections in (1, 2):
            served = runtimes.over_http(servers, forest.rows, seconds=min(seconds, 2), connections=connections)
            found[f"served, {connections} under way"] = served.unstack()
            crossing[f"served, {connections} under way"] = runtimes.crossover(served["rows/s"].unstack())
    return found | {"OpenVINO pays from, rows": pd.Series(crossing, dtype="Int64").to_frame("rows")}


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="per server, after a second of warm-up")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be repeated")
    given = parser.parse_args()
    work = {"rivals": rivals, "variants": variants, "runtimes": batches}
    before = os.getloadavg()
    forest = lab.scratch()
    tables: dict[str, pd.DataFrame] = {}
    for part in given.part or PARTS:
        tables |= work[part](forest, given.seconds)
    about = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load average before and after": [[round(value, 2) for value in when] for when in (before, os.getloadavg())],
    }
    pd.set_option("display.width", 200, "display.max_columns", 30)
    for title, found in tables.items():
        print(f"\n{title}\n{found.round(3).to_string()}")
    print(f"\n{json.dumps(about, indent=1)}")
    kept = {title: json.loads(found.to_json(orient="split", double_precision=4)) for title, found in tables.items()}
    write_text(settings.home / "benchmarks" / "serving.json", json.dumps(about | {"tables": kept}, indent=1))


if __name__ == "__main__":
    main()
