"""Closed loops by wrk, a load generator in C: where it is installed, it leaves the server nearly a whole core more.

Source: https://github.com/wg/wrk. A script of Lua gives it the bodies and makes it report in JSON.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from workshop_lib.serving.load_target import LoadError, Target

_WRK_SCRIPT = """
wrk.method = {method}
{headers}
local bodies = {{ {bodies} }}
wrk.body = bodies[1]
if #bodies > 1 then
  local number = 0
  function request()
    number = number % #bodies + 1
    return wrk.format(nil, nil, nil, bodies[number])
  end
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.stderr:write(string.format(
    '{{"requests": %d, "us": %d, "P50": %d, "P95": %d, "P99": %d, "max": %d, "errors": '
      .. '{{"no connection": %d, "disconnected": %d, "status 4xx or 5xx": %d, "timeout": %d}}}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99),
    latency.max, errors.connect, errors.read + errors.write, errors.status, errors.timeout))
end
"""


def run_wrk(target: Target, connections: int, seconds: float) -> tuple[dict[str, Any], float]:
    """Keep ``connections`` requests under way for ``seconds`` (whole ones, at least one).

    Returns:
        ``requests``, ``us`` (how long it took), ``P50``, ``P95``, ``P99`` and ``max`` in microseconds, and ``errors``
        by kind; and the processor time of wrk in seconds.

    Raises:
        LoadError: when wrk fails, for instance because nobody listens at the address.
    """
    script = _WRK_SCRIPT.format(
        method=_lua(target.method),
        headers="\n".join(f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in target.headers.items()),
        bodies=", ".join(map(_lua, target.bodies)),
    )
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        file = Path(folder) / "report.lua"
        file.write_text(script, encoding="ascii")
        # wrk knows whole seconds; one thread is enough for any server here and leaves it the other core.
        options = [
            "-t1",
            f"-c{connections}",
            f"-d{max(1, math.ceil(seconds))}s",
            f"--timeout={max(1, round(target.timeout))}s",
        ]
        command = ["wrk", *options, "-s", str(file), target.url]
        with (Path(folder) / "said").open("w+", encoding="utf-8") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            said = output.read()
    report = re.search(r"^\{.*\}$", said, re.MULTILINE)
    if process.returncode != 0 or report is None:
        raise LoadError(f"wrk failed: {said.strip()}")
    return json.loads(report[0]), usage.ru_utime + usage.ru_stime


def _lua(text: str) -> str:
    """A text as a literal of Lua."""
    return (
        '"'
        + "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in text.encode())
        + '"'
    )
