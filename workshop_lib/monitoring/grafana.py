"""The dashboards as JSON for Grafana, made with Grafana's own SDK.

    python -m workshop_lib.monitoring.grafana            # are the checked-in dashboards up to date?
    python -m workshop_lib.monitoring.grafana --write    # bring them up to date

In Grafana: Dashboards, New, Import; it asks which Prometheus to use. What the panels show, and the limits in them, is
described in :mod:`workshop_lib.monitoring.panels_catalogue`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as grafana
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

from workshop_lib.files import write_text
from workshop_lib.monitoring.config import MonitoringConfig, load_config
from workshop_lib.monitoring.panels import Dashboard, Panel, Unit
from workshop_lib.monitoring.panels_catalogue import NAMES, dashboard
from workshop_lib.settings import ROOT

FOLDER = ROOT / "5-monitoring-optimization" / "monitoring" / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_UNITS: dict[Unit, str] = {"per second": "reqps", "seconds": "s", "share": "percentunit", "number": "short"}
_SPAN, _HEIGHT = 8, 8
"""A third of the width that Grafana divides into 24 columns; its rows are about 30 pixels high."""
Made = timeseries.Panel | bargauge.Panel | stat.Panel
_GOOD, _BAD = "green", "red"


def files(config: MonitoringConfig) -> dict[Path, str]:
    """Text of every dashboard's file, by its path."""
    return {FOLDER / f"{name}.json": to_json(dashboard(name, config)) for name in NAMES}


def to_json(shown: Dashboard) -> str:
    """A dashboard as Grafana takes it."""
    page = (
        grafana.Dashboard(shown.title)
        .uid(f"shop-{shown.name}")
        .tags(["shop"])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .readonly()
        .with_variable(grafana.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for row in shown.rows:
        page.with_row(grafana.Row(row.title))
        for panel in row.panels:
            page.with_panel(_panel(panel))
    for number, made in enumerate(page.build().panels or [], start=1):
        made.id_val = number  # links to a panel go by it
    return json.dumps(page.build(), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _panel(panel: Panel) -> Made:
    makers: dict[str, Callable[[Panel], Made]] = {"lines": _lines, "bars": _bars, "number": _number}
    made = makers[panel.kind](panel)
    note = " ".join([panel.note, *(f"Limit: {limit.name}." for limit in panel.limits)]).strip()
    made.title(panel.title).description(note).datasource(SOURCE).unit(_UNITS[panel.unit])
    made.span(_SPAN).height(_HEIGHT).thresholds(_thresholds(panel))
    if panel.only_with:
        made.no_value(f"only with {panel.only_with}")
    for number, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend).ref_id(chr(65 + number))
        made.with_target(target.range() if panel.kind == "lines" else target.instant())
    return made


def _lines(panel: Panel) -> timeseries.Panel:
    mode = options.GraphTresholdsStyleMode  # the SDK spells it so
    style = mode.DASHED if panel.limits else mode.OFF
    legend = common.VizLegendOptions().display_mode(options.LegendDisplayMode.LIST)
    return (
        timeseries.Panel()
        .line_width(1)
        .axis_soft_min(0)
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(style))
        .legend(legend.placement(options.LegendPlacement.BOTTOM).show_legend(True))
    )


def _bars(panel: Panel) -> bargauge.Panel:
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    return bargauge.Panel().orientation(options.VizOrientation.HORIZONTAL).reduce_options(last)


def _number(panel: Panel) -> stat.Panel:
    return stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))


def _thresholds(panel: Panel) -> grafana.ThresholdsConfig:
    """Colours from each value on; the first one has no value: minus infinity."""
    rising = [limit for limit in panel.limits if limit.bad == "above"]
    falling = [limit for limit in panel.limits if limit.bad == "below"]
    steps = [Threshold(None, _BAD if falling else _GOOD)]
    steps += [Threshold(limit.value, _GOOD) for limit in falling] + [Threshold(limit.value, _BAD) for limit in rising]
    steps[1:] = sorted(steps[1:], key=lambda step: step.value or 0)
    return grafana.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def main(arguments: list[str]) -> int:
    """Compare the files with what they should be, or write them; for the command line."""
    outdated = [
        path
        for path, text in files(load_config()).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--write" in arguments:
        for path in outdated:
            write_text(path, files(load_config())[path])
        return 0
    for path in outdated:
        print(f"{path} is out of date. Run: python -m {__spec__.name} --write", file=sys.stderr)
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
