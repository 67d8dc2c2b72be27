"""The scans behind the gate *security*. Each says what it looked at, so that nothing counts as safe that nobody saw.

==================  =============================================================================================
files               each file by a scanner that knows its kind: modelscan for pickles, op lists for ONNX and IR,
                    the list of types for skops
secrets             detect-secrets over every text in the package
packages            pip-audit over the lock: are there known weaknesses?
bill of materials   an SBOM by cyclonedx that names every package of the lock
signature           who made the package, and is it as they made it?
code                bandit over the code that works on the model
==================  =============================================================================================

modelscan skips what it does not know and still ends well; pip-audit ends well when it skipped every package. So none of
them is believed by its exit status: a file counts when the scanner names it, a package when it has an answer.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from workshop_lib.files import locked, sha256
from workshop_lib.mlops import signing
from workshop_lib.mlops.gate_config import Security
from workshop_lib.mlops.gate_result import Finding, Severity
from workshop_lib.settings import ROOT, settings

PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".dat", ".data", ".pt", ".pth", ".ckpt", ".npy", ".h5", ".keras")
"""Files that can run code when they are loaded."""
TEXT_BYTES = 2_000_000
"""A larger text is not read for secrets, and that is said."""
DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
"""Of ONNX operators that every runtime knows; another domain needs a library with code."""
_ENTROPY = {"Base64HighEntropyString", "HexHighEntropyString"}
"""Not asked: a package is full of checksums, which look just like random keys to them."""
_AUDIT_SECONDS = 600
_KNOWN: dict[Hashable, Any] = {}
T = TypeVar("T")


@dataclass(frozen=True)
class Scan:
    """What one scan looked at and found."""

    name: str
    looked_at: str
    findings: tuple[Finding, ...] = ()


def scan_files(folder: Path, trusted: tuple[str, ...] = ()) -> Scan:
    """Look into every binary file of a package with a scanner for its kind; one that none knows is an open question.

    Args:
        folder: the package's.
        trusted: types that a skops file may hold.
    """
    findings: list[Finding] = []
    seen: dict[str, int] = {}
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        name, kind = path.relative_to(folder).as_posix(), path.suffix.lower()
        scanner = _SCANNERS.get("pickle" if kind in PICKLES else kind)
        if scanner is not None:
            found = scanner(path, trusted)
            findings += [Finding(one.severity, one.source, f"{name}: {one.text}") for one in found]
            if all(one.severity != "unanswered" for one in found):
                seen[kind] = seen.get(kind, 0) + 1
        elif _text(path) is None:
            findings.append(Finding("unanswered", "files", f"{name}: no scanner knows this kind of file"))
    looked_at = ", ".join(f"{count} {kind}" for kind, count in seen.items()) or "nothing"
    return Scan("files", looked_at, tuple(findings))


def _pickle(path: Path, trusted: tuple[str, ...]) -> list[Finding]:
    """modelscan, believed only for a file that it says it has scanned."""
    from modelscan.modelscan import ModelScan

    report = ModelScan().scan(path)
    found = [Finding("high", "modelscan", "a pickle or its like, which runs code when it is loaded")]
    for issue in report.get("issues", []):
        severity: Severity = {"CRITICAL": "critical", "HIGH": "high", "MEDIUM": "medium"}.get(issue["severity"], "low")  # type: ignore[assignment]
        found.append(Finding(severity, "modelscan", f"calls {issue['module']}.{issue['operator']}"))
    if path.name not in report["summary"]["scanned"].get("scanned_files", []):
        found.append(Finding("unanswered", "modelscan", "modelscan could not read it"))
    return found


def _onnx(path: Path, trusted: tuple[str, ...]) -> list[Finding]:
    import onnx

    model = onnx.load(path, load_external_data=False)
    foreign = sorted({node.domain for node in model.graph.node} - DOMAINS)
    outside = [one.name for one in model.graph.initializer if one.external_data]
    found = [Finding("high", "onnx", f"operators of {name}, which need a library with code") for name in foreign]
    return found + [Finding("high", "onnx", f"reads other files for {name}") for name in outside]


def _ir(path: Path, trusted: tuple[str, ...]) -> list[Finding]:
    """OpenVINO's graph: standard operations only; its numbers in the .bin hold no code."""
    layers = re.findall(r"<layer [^>]*>", path.read_text(encoding="utf-8"))
    foreign = sorted({layer for layer in layers if not re.search(r'version="opset\d+"', layer)})
    return [Finding("high", "openvino", f"a layer outside of the standard sets: {layer[:80]}") for layer in foreign]


def _numbers(path: Path, trusted: tuple[str, ...]) -> list[Finding]:
    if path.with_suffix(".xml").is_file():
        return []
    return [Finding("unanswered", "openvino", "numbers without a graph; nobody knows what they are")]


def _skops(path: Path, trusted: tuple[str, ...]) -> list[Finding]:
    unknown = sorted(set(_once(("skops", sha256(path)), _types, path)) - set(trusted))
    return [Finding("high", "skops", f"holds {name}, which nobody has allowed") for name in unknown]


def _types(path: Path) -> list[str]:
    from skops.io import get_untrusted_types

    return list(get_untrusted_types(file=path))


_SCANNERS: dict[str, Callable[[Path, tuple[str, ...]], list[Finding]]] = {
    "pickle": _pickle, ".onnx": _onnx, ".xml": _ir, ".bin": _numbers, ".skops": _skops,
}  # fmt: skip


def _text(path: Path) -> str | None:
    """A file's text, or None for a binary file."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def scan_secrets(folder: Path) -> Scan:
    """Look for keys, tokens and passwords in every text of a package; each is critical."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.settings import transient_settings

    known: Mapping[str, type] = get_mapping_from_secret_type_to_class()
    plugins = [plugin.__name__ for plugin in known.values()]
    texts = [path for path in sorted(folder.rglob("*")) if path.is_file() and _text(path) is not None]
    large = [path for path in texts if path.stat().st_size > TEXT_BYTES]
    findings = [Finding("unanswered", "secrets", f"{path.name}: too large to look for secrets") for path in large]
    with transient_settings({"plugins_used": [{"name": name} for name in plugins if name not in _ENTROPY]}):
        for path in sorted(set(texts) - set(large)):
            for line, kind in _once(("secrets", path.suffix, sha256(path)), _secrets, path):
                findings.append(Finding("critical", "secrets", f"{path.relative_to(folder)}, line {line}: {kind}"))
    return Scan("secrets", f"{len(texts) - len(large)} texts", tuple(findings))


def _secrets(path: Path) -> list[tuple[int, str]]:
    """Lines and kinds of what looks like a secret."""
    from detect_secrets.core.scan import scan_file

    return sorted((secret.line_number, secret.type) for secret in scan_file(str(path)))


def _once(key: Hashable, scan: Callable[[Path], T], path: Path) -> T:
    """A scan of a file by its content: most files are the same in one version and the next."""
    if key not in _KNOWN:
        _KNOWN[key] = scan(path)
    return cast(T, _KNOWN[key])


def pins(lock: Path) -> dict[str, str]:
    """Names and versions in a lock, names as PyPI writes them (PEP 503)."""
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.is_file() else []
    found = (re.match(r"([\w.-]+)(?:\[[^]]*\])?==([^\s;]+)", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", match[1]).lower(): match[2] for match in found if match}


def audit_packages(lock: Path, source: str | None) -> Scan:
    """Ask whether packages of a lock have known weaknesses.

    Args:
        lock: the environment's pins.
        source: an address that speaks OSV's protocol; pip-audit's own when None.

    A package without an answer is an open question, and so are all of them when nobody answers.
    """
    wanted = pins(lock)
    if not wanted:
        return Scan("packages", "nothing", (Finding("unanswered", "pip-audit", "there is no lock to ask about"),))
    answers, why = _asked(lock.read_text(encoding="utf-8"), source)
    findings = [
        Finding("high", "pip-audit", f"{name} {wanted[name]}: {weakness}")
        for name, weaknesses in answers
        for weakness in weaknesses
    ]
    silent = sorted(set(wanted) - {name for name, _ in answers})
    if silent:
        text = f"nobody answered for {len(silent)} of {len(wanted)} packages ({why})"
        findings.append(Finding("unanswered", "pip-audit", text))
    return Scan("packages", f"{len(wanted) - len(silent)} of {len(wanted)} packages", tuple(findings))


@functools.cache
def _asked(lock: str, source: str | None) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], str]:
    """What pip-audit says of each package that it has an answer for, and its last words where it has none."""
    folder = settings.home / "mlops" / "pip-audit"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip_audit", "-r", "/dev/stdin", "--no-deps", "--disable-pip", "-s", "osv"]
    command += ["-f", "json", "--progress-spinner", "off", "--cache-dir", str(folder), "--timeout", "10"]
    command += ["--osv-url", source] if source else []
    done = subprocess.run(command, input=lock, capture_output=True, text=True, timeout=_AUDIT_SECONDS, check=False)
    try:
        rows = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        kinds = re.findall(r"^(?:[\w.]+\.)?(\w*(?:Error|Timeout))\b", done.stderr, re.M)
        return (), kinds[-1] if kinds else "pip-audit failed"  # its words would name addresses of one machine
    return tuple(
        (re.sub(r"[-_.]+", "-", row["name"]).lower(), tuple(one["id"] for one in row["vulns"]))
        for row in rows
        if "skip_reason" not in row
    ), "skipped by pip-audit"


def bill_of_materials(lock: Path) -> Path:
    """The SBOM of a lock in CycloneDX's form; made once for each lock, beside the packages and not within them.

    Raises:
        subprocess.CalledProcessError: when it cannot be made.
    """
    path = settings.home / "mlops" / "sbom" / f"{sha256(lock)[:16]}.json"
    with locked(path):
        if not path.exists():
            command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock), "--of", "JSON"]
            # Validating its own output takes it 20 seconds; the scan below reads what matters.
            command += ["--output-reproducible", "--no-validate", "-o", str(path)]
            subprocess.run(command, capture_output=True, text=True, check=True)
    return path


def scan_bill(lock: Path, bill: Path | None) -> Scan:
    """Whether a bill of materials is there and names every package of a lock in its version."""
    if bill is None or not bill.is_file():
        return Scan("bill of materials", "nothing", (Finding("high", "sbom", "there is no bill of materials"),))
    rows = json.loads(bill.read_text(encoding="utf-8")).get("components", [])
    named = {re.sub(r"[-_.]+", "-", row["name"]).lower(): row.get("version") for row in rows}
    wanted = pins(lock)
    missing = sorted(name for name, version in wanted.items() if named.get(name) != version)
    text = f"{len(missing)} packages are not named, {', '.join(missing[:3])} among them"
    findings = (Finding("high", "sbom", text),) if missing or not wanted else ()
    return Scan("bill of materials", f"{len(wanted) - len(missing)} of {len(wanted)} packages", findings)


def scan_signature(folder: Path) -> Scan:
    """Whether a package is as its maker signed it."""
    try:
        signing.verify(folder)
    except signing.SignatureError as error:
        return Scan("signature", "1 package", (Finding("critical", "signature", str(error)),))
    return Scan("signature", "1 package")


@functools.cache
def scan_code(folders: tuple[str, ...]) -> Scan:
    """Look for dangerous habits in code; bandit's own severities count.

    Args:
        folders: relative to the checkout.
    """
    command = [sys.executable, "-m", "bandit", "-q", "-r", *folders, "-f", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    unread = [Finding("unanswered", "bandit", f"{one['filename']}: {one['reason']}") for one in report["errors"]]
    files = sorted(name for name in report["metrics"] if name != "_totals")
    found = [
        Finding(one["issue_severity"].lower(), "bandit", f"{one['filename']}: {one['test_id']} {one['test_name']}")
        for one in report["results"]
    ]
    return Scan("code", f"{len(files)} files", (*unread, *found))


def scan_all(package: Path, source: str | None, limits: Security) -> list[Scan]:
    """All scans of a package.

    Args:
        package: its folder.
        source: as for :func:`audit_packages`.
        limits: which code to look at, which types to trust.
    """
    lock = package / "requirements.lock"
    # Three of the scanners are programs of their own: they run beside those that work in this process.
    with ThreadPoolExecutor() as pool:
        packages = pool.submit(audit_packages, lock, source)
        bill = pool.submit(lambda: scan_bill(lock, bill_of_materials(lock) if lock.is_file() else None))
        code = pool.submit(scan_code, limits.code)
        files, secrets, signature = scan_files(package, limits.trusted), scan_secrets(package), scan_signature(package)
    return [files, secrets, packages.result(), bill.result(), signature, code.result()]
