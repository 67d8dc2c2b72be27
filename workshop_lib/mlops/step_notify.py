"""The pipeline's last task, whatever happened before: tell people."""

from __future__ import annotations

import httpx

from workshop_lib.mlops.steps import Results


def notify(run: str, status: str, stages: str = "", webhook: str = "") -> Results:
    """Send a message in the form of Slack's incoming webhooks.

    Args:
        run: name of the run.
        status: Tekton's word for all tasks together: ``Succeeded``, ``Failed`` or ``Completed`` (some were skipped).
        stages: what else to say, a line of text.
        webhook: where to; nobody is told when it is empty.

    Raises:
        httpx.HTTPError: when the message was not taken.
    """
    if not webhook:
        return {"told": "nobody"}
    good = status != "Failed"
    shown = {"color": "good" if good else "danger", "title": f"{run}: {status}", "text": stages}
    httpx.post(webhook, json={"attachments": [shown]}, timeout=10).raise_for_status()
    return {"told": webhook.rsplit("/", 1)[-1]}
