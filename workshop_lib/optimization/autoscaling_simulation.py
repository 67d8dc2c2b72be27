"""What an autoscaler's decisions mean: replicas, waiting times and cost under a day's traffic.

    busy = traffic("2017-11-22")
    scaled = simulate(busy, forecaster(), read_policy("sales-forecaster"))
    fixed = simulate(busy, forecaster(), replicas=6)
    compare({"autoscaled": scaled, "always six": fixed}, price=0.10)

The queue is kept simple. While there is room, waiting follows from the formula of Erlang for c servers and random
arrivals (M/M/c; A. K. Erlang, 1917; L. Kleinrock, Queueing Systems I, 1975, section 3.5), taken anew in each step
(the pointwise stationary approximation: L. Green and P. Kolesar, Management Science 37(1), 1991). When more comes
than the servers can do, the surplus piles up like water and is worked off later (a fluid queue; G. F. Newell,
Applications of Queueing Theory, 1971). Who would wait longer than the caller's time-out leaves. Close to full use the
formula is too strict, because it takes the jam to have had time to form.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from workshop_lib.monitoring.config import load_config
from workshop_lib.optimization.autoscaling import SYNC_SECONDS, Autoscaler, Pod, Policy, Reading
from workshop_lib.optimization.autoscaling_traffic import resampled
from workshop_lib.settings import settings

METRIC_SECONDS = 60
"""The autoscaler sees rates of the last minute: ``[1m]`` in the queries."""
REST = 0.05
"""What the P95 leaves out."""


@dataclass(frozen=True)
class Service:
    """What one replica can do."""

    per_second: float
    """Requests per second at most."""
    allowed_wait: float
    """Seconds that a request may wait for its turn; a longer wait makes it late."""
    patience: float
    """Seconds after which a caller gives up."""
    start_seconds: float
    """From the decision for a further replica to its first answer."""
    slots: int = 1
    """Requests that a replica works on at once."""
    memory_percent: float = 50
    """Memory in use, of the pod's request. It does not depend on the load."""


def forecaster(per_second: float = 1000, start_seconds: float = 30) -> Service:
    """A forecaster on one core; late and impatient are those that the monitoring's file and the settings say.

    Args:
        per_second: 1000 means one millisecond of processor time per request.
        start_seconds: until a further replica answers.
    """
    allowed = load_config().forecaster.service.p95_seconds - 1 / per_second
    return Service(per_second, allowed, patience=settings.forecaster_timeout, start_seconds=start_seconds)


def llm(per_second: float = 3, start_seconds: float = 240, slots: int = settings.llm_sequences) -> Service:
    """A language model that writes ``slots`` texts at once.

    Args:
        per_second: texts per second, with all slots in use.
        start_seconds: until a further replica answers: it has to load its weights.
        slots: texts at once.
    """
    allowed = load_config().generator.service.response_seconds - slots / per_second
    return Service(per_second, allowed, settings.api_llm_timeout, start_seconds, slots)


class Step(NamedTuple):
    """The queue in one step of time."""

    late: float
    """Share of the step's requests."""
    waiting: float
    """Requests that wait at its end."""
    wait_p95: float
    """Seconds that 95 of 100 requests do not exceed."""
    served: float
    """Requests per second that were answered."""
    busy: float
    """Share of the capacity in use."""
    backlog: float
    """Surplus requests at its end."""


def erlang_c(servers: int, load: float) -> float:
    """Probability that a request has to wait for its turn (M/M/c).

    Args:
        servers: c.
        load: arrivals per second over what one server does per second; below ``servers``.
    """
    blocked = 1.0
    for count in range(1, servers + 1):  # Erlang's B formula, by its recursion
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def queue(rate: float, replicas: int, service: Service, backlog: float, seconds: float = SYNC_SECONDS) -> Step:
    """What becomes of a step's requests.

    Args:
        rate: arrivals per second.
        replicas: that answer.
        service: what each can do.
        backlog: surplus requests at the beginning of the step.
        seconds: length of the step.
    """
    capacity = replicas * service.per_second
    if not capacity:
        lost = service.patience * rate  # nobody answers; who comes waits for the time-out
        return Step(1.0 if rate else 0.0, lost, service.patience, 0.0, 0.0, lost)
    if backlog <= 0 and rate < capacity:
        servers, load = replicas * service.slots, rate / service.per_second * service.slots
        waits, spare = erlang_c(servers, load), capacity - rate
        p95 = math.log(waits / REST) / spare if waits > REST else 0.0
        late = waits * math.exp(-spare * service.allowed_wait)
        return Step(late, waits * rate / spare, p95, rate, rate / capacity, 0.0)
    most = service.patience * capacity
    slope = rate - capacity
    after = min(max(backlog + slope * seconds, 0.0), most)
    late = _share_above(backlog, slope, seconds, service.allowed_wait * capacity)
    # At most what there is to do: a backlog that ends within the step leaves the servers idle afterwards.
    served = min(capacity, rate + backlog / seconds)
    return Step(late, after, max(backlog, after) / capacity, served, served / capacity, after)


def _share_above(start: float, slope: float, seconds: float, level: float) -> float:
    """Share of the time in which a line that starts at ``start`` lies above ``level``."""
    if slope == 0:
        return float(start > level)
    crossing = min(max((level - start) / slope / seconds, 0.0), 1.0)
    return 1 - crossing if slope > 0 else crossing


def simulate(series: pd.Series, service: Service, policy: Policy | None = None, replicas: int = 1) -> pd.DataFrame:
    """Run through the traffic, step by step.

    Args:
        series: requests per second in each minute, from :func:`~workshop_lib.optimization.autoscaling_traffic.traffic`.
        service: what each replica can do.
        policy: who decides; without one the number of replicas stays.
        replicas: at the beginning, all of them ready.

    Returns:
        A row for every :data:`~workshop_lib.optimization.autoscaling.SYNC_SECONDS` with ``rate`` (requests per
        second), ``replicas`` (paid for), ``ready`` (answering), ``busy`` (share of what is ready), ``waiting``
        (requests), ``wait`` (P95, seconds) and ``late`` (share of the requests), indexed by time.
    """
    autoscaler = Autoscaler(policy, replicas) if policy else None
    ready_from = [0.0] * replicas
    seen: deque[Step] = deque(maxlen=METRIC_SECONDS // SYNC_SECONDS)
    backlog, rows = 0.0, []
    for number, rate in enumerate(resampled(series, SYNC_SECONDS).tolist()):
        now = float(number * SYNC_SECONDS)
        ready = sum(when <= now for when in ready_from)
        step = queue(rate, ready, service, backlog)
        backlog = step.backlog
        seen.append(step)
        rows.append((rate, len(ready_from), ready, step.busy, step.waiting, step.wait_p95, step.late))
        if autoscaler is not None:
            count = autoscaler.sync(now, readings(seen, service, len(ready_from), ready), ready)
            del ready_from[count:]  # the youngest go first
            ready_from += [now + service.start_seconds] * (count - len(ready_from))
    times = pd.date_range(series.index[0], periods=len(rows), freq=f"{SYNC_SECONDS}s")
    columns = ["rate", "replicas", "ready", "busy", "waiting", "wait", "late"]
    return pd.DataFrame(rows, index=times, columns=columns)


def readings(seen: deque[Step], service: Service, replicas: int, ready: int) -> dict[str, Reading]:
    """What the queries of ``autoscaling_config.yaml`` would say.

    Args:
        seen: the steps of the last minute, the present one last.
        service: what each replica can do.
        replicas: pods that exist.
        ready: those that answer.

    Returns:
        ``cpu`` and ``memory`` of each pod in percent of its request, ``requests`` (answers per second of all pods),
        ``queue`` (requests at work and waiting), ``waiting-seconds`` (P95) and ``gpu`` (percent, while somebody
        waits); for comparisons ``waiting`` (requests that wait, alone) and ``gpu-alone`` (percent, always).
        Utilisation of a GPU is the share of time in which anything runs on it: with random arrivals, one minus the
        probability of an empty server, e to the minus the number of requests at work.
    """
    now = seen[-1]
    busy = sum(step.busy for step in seen) / len(seen)
    pods = [True] * ready + [False] * (replicas - ready)
    running = 100 * (1 - math.exp(-busy * service.slots))
    return {
        "cpu": [Pod(100 * busy, is_ready) for is_ready in pods],
        "memory": [Pod(service.memory_percent, is_ready) for is_ready in pods],
        "requests": sum(step.served for step in seen) / len(seen),
        "queue": now.busy * service.slots * ready + now.waiting,
        "waiting": now.waiting,
        "waiting-seconds": now.wait_p95,
        "gpu": running if now.waiting >= 1 else 0.0,
        "gpu-alone": running,
    }


def summary(frame: pd.DataFrame, price: float) -> dict[str, float]:
    """A run in a few figures. A minute is bad when more of its requests are late than the objective allows.

    Args:
        frame: from :func:`simulate`.
        price: of a replica for an hour.
    """
    hours = SYNC_SECONDS / 3600
    requests = frame["rate"].sum()
    late = frame["late"] * frame["rate"]
    minutes = late.resample("1min").sum() / frame["rate"].resample("1min").sum()
    promised = load_config().objectives.latency
    return {
        "replicas, least": frame["replicas"].min(),
        "replicas, most": frame["replicas"].max(),
        "changes": int((frame["replicas"].diff().fillna(0) != 0).sum()),
        "replica-hours": frame["replicas"].sum() * hours,
        "cost": frame["replicas"].sum() * hours * price,
        "busy, %": 100 * (frame["busy"] * frame["ready"]).sum() / frame["replicas"].sum(),
        "late, %": 100 * late.sum() / requests,
        "bad minutes": int((minutes > 1 - promised).sum()),
    }


def compare(frames: Mapping[str, pd.DataFrame], price: float) -> pd.DataFrame:
    """A row of :func:`summary` for each run."""
    return pd.DataFrame.from_dict({name: summary(frame, price) for name, frame in frames.items()}, orient="index")


def fewest(series: pd.Series, service: Service, most: int = 50) -> int:
    """The smallest fixed number of replicas with which no minute is bad.

    Raises:
        ValueError: when not even ``most`` are enough.
    """
    for replicas in range(1, most + 1):
        if not summary(simulate(series, service, replicas=replicas), price=0)["bad minutes"]:
            return replicas
    raise ValueError(f"Even with {most} replicas there are minutes in which too many requests are late.")
