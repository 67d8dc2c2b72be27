"""How good the forecasts of each version were, as metrics: what the counters of the business API do not tell apart.

    python -m workshop_lib.mlops.judge --port 8600 --hours 72

It reads the table in which the API keeps its forecasts and the sales that were told afterwards, each time that
Prometheus asks. The figures are sums, so that a query can put them together as it likes: errors over units is the
WAPE of a version, missing units over units the share of sales that an order of exactly the forecast would lose. They
are told for each day, because two versions are compared fairly on the same days only: a canary is asked most on the
last days of its release, and these may be harder than the first ones.
"""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import case, func, select

from workshop_lib.serving import history
from workshop_lib.serving.feedback import FORECASTS
from workshop_lib.settings import settings

FIGURES = {
    "settled_forecasts": "Forecasts whose sales are known",
    "settled_units": "Units sold on the days of these forecasts",
    "settled_error_units": "Absolute errors of these forecasts, in units",
    "settled_short_units": "Units by which sales lay above these forecasts",
}


class Judge(Collector):
    """The figures of each version, read when they are asked for.

    Args:
        url: of the database; ``settings.history_database`` by default.
        hours: only forecasts that were made so lately.
    """

    def __init__(self, url: str | None = None, hours: float = 72) -> None:
        self._engine, self._hours = history.connect(url), hours
        forecast, sold = FORECASTS.c.units, FORECASTS.c.sold
        self._question = select(
            FORECASTS.c.version,
            FORECASTS.c.date,
            func.count(),
            func.sum(sold),
            func.sum(func.abs(forecast - sold)),
            func.sum(case((sold > forecast, sold - forecast), else_=0.0)),
        ).where(sold.is_not(None), FORECASTS.c.version.is_not(None))

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The names alone: registering must not ask the database."""
        return (GaugeMetricFamily(name, text) for name, text in FIGURES.items())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample per version, day and figure.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: when the database is away: Prometheus then sees that the judge is down.
        """
        history.make_tables(self._engine, FORECASTS)
        lately = FORECASTS.c.made_at >= time.time() - 3600 * self._hours
        with self._engine.connect() as connection:
            asked = self._question.where(lately).group_by(FORECASTS.c.version, FORECASTS.c.date)
            rows = connection.execute(asked).all()
        for place, (name, text) in enumerate(FIGURES.items(), start=2):
            family = GaugeMetricFamily(name, text, labels=["version", "day"])
            for row in rows:
                family.add_metric([str(row[0]), str(row[1])], float(row[place]))
            yield family

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()


def registry(judge: Judge) -> CollectorRegistry:
    """The judge's figures alone, without those of the process around it."""
    own = CollectorRegistry()
    own.register(judge)
    return own


def main() -> None:
    """Serve the figures until the process is told to end."""
    parser = argparse.ArgumentParser(description="Tell Prometheus how good the forecasts of each version were.")
    parser.add_argument("--port", type=int, required=True, help="where to listen")
    parser.add_argument("--hours", type=float, default=72, help="only forecasts that were made so lately")
    given = parser.parse_args()
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    server, thread = start_http_server(given.port, settings.bind_host, registry(Judge(hours=given.hours)))
    over.wait()
    server.shutdown()
    thread.join()


if __name__ == "__main__":
    main()
