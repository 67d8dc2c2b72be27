"""The scans: what each finds, and that nothing counts as safe which it did not see."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
from onnx import TensorProto, helper, save
from sklearn.ensemble import RandomForestRegressor

from workshop_lib.mlops import gate_practice, gate_scans, signing
from workshop_lib.mlops.gate_practice import advisory_source
from workshop_lib.mlops.gate_scans import (
    audit_packages,
    bill_of_materials,
    pins,
    scan_bill,
    scan_code,
    scan_files,
    scan_secrets,
    scan_signature,
)
from workshop_lib.ports import HOST, free_port


def told(scan: gate_scans.Scan) -> list[tuple[str, str]]:
    return [(one.severity, one.text) for one in scan.findings]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "package" / "model").mkdir(parents=True)
    return tmp_path / "package"


def test_a_pickle_that_runs_a_command_is_critical(folder: Path) -> None:
    gate_practice.poison(folder)
    scan = scan_files(folder)
    assert ("critical", "model/scaler.pkl: calls posix.system") in told(scan) and scan.looked_at == "1 .pkl"


def test_a_pickle_that_the_scanner_believes_is_still_a_pickle(folder: Path) -> None:
    """modelscan knows no ``importlib``; whoever loads the file runs the module's code all the same."""
    gate_practice.hide(folder)
    assert [severity for severity, _ in told(scan_files(folder))] == ["high"]


@pytest.mark.parametrize("compress", [0, 3])
def test_a_forest_that_could_not_be_read_is_not_counted_as_read(folder: Path, compress: int) -> None:
    forest = RandomForestRegressor(2, random_state=0).fit(np.arange(20).reshape(-1, 1), np.arange(20))
    joblib.dump(forest, folder / "forest.joblib", compress=compress)
    scan = scan_files(folder)
    assert ("unanswered", "forest.joblib: modelscan could not read it") in told(scan) and scan.looked_at == "nothing"


def test_plain_numbers_in_a_pickle_are_read(folder: Path) -> None:
    (folder / "numbers.pkl").write_bytes(pickle.dumps({"mean": 1.5}))
    scan = scan_files(folder)
    assert [severity for severity, _ in told(scan)] == ["high"] and scan.looked_at == "1 .pkl"


def graph(domain: str) -> helper.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("a", "b")]
    node = helper.make_node("Relu", ["a"], ["b"], domain=domain)
    return helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]))


def test_formats_without_code_are_looked_at_by_their_own_scanners(folder: Path) -> None:
    save(graph(""), folder / "good.onnx")
    save(graph("com.example"), folder / "bad.onnx")
    layer = '<layer id="0" name="x" type="Relu" version="{}">'
    (folder / "model.xml").write_text(layer.format("opset1") + layer.format("extension"))
    (folder / "model.bin").write_bytes(bytes(range(256)))
    (folder / "other.bin").write_bytes(bytes(range(256)))
    (folder / "strange.so").write_bytes(bytes(range(256)))
    assert [(severity, text.partition(":")[0]) for severity, text in told(scan_files(folder))] == [
        ("high", "bad.onnx"), ("high", "model.xml"), ("unanswered", "other.bin"), ("unanswered", "strange.so")
    ]  # fmt: skip


def test_a_type_that_nobody_has_allowed_is_found_in_a_skops_file(folder: Path) -> None:
    from skops.io import dump

    dump(RandomForestRegressor(2, random_state=0).fit([[0], [1]], [0, 1]), folder / "model.skops")
    assert told(scan_files(folder)) == [
        ("high", "model.skops: holds sklearn.tree._tree.Tree, which nobody has allowed")
    ]
    assert told(scan_files(folder, ("sklearn.tree._tree.Tree",))) == []


def test_a_key_is_found_and_checksums_are_no_keys(folder: Path) -> None:
    (folder / "package.json").write_text(json.dumps({"files": {"a": "0123456789abcdef" * 4}}, indent=1))
    assert told(scan_secrets(folder)) == []
    gate_practice.leak(folder)
    assert told(scan_secrets(folder)) == [("critical", "model/storage.env, line 1: AWS Access Key")]
    (folder / "large.txt").write_text("x" * (gate_scans.TEXT_BYTES + 1))
    assert ("unanswered", "large.txt: too large to look for secrets") in told(scan_secrets(folder))


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.lock"
    file.write_text("# pins\nApple_Pie==1.0\npear[core]==2.1 ; python_version > '3'\nplum==3.0.1\n")
    return file


def test_names_in_a_lock_are_written_as_the_index_writes_them(lock: Path, tmp_path: Path) -> None:
    assert pins(lock) == {"apple-pie": "1.0", "pear": "2.1", "plum": "3.0.1"}
    assert pins(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("weak", "expected"), [({}, []), ({"pear": "X-2026-1"}, [("high", "pear 2.1: X-2026-1")])], ids=["none", "one"]
)
def test_a_source_that_answers_is_believed(lock: Path, weak: dict[str, str], expected: list[tuple[str, str]]) -> None:
    with advisory_source(weak) as source:
        scan = audit_packages(lock, source)
    assert told(scan) == expected and scan.looked_at == "3 of 3 packages"


def test_when_nobody_answers_no_package_passes(lock: Path, tmp_path: Path) -> None:
    scan = audit_packages(lock, f"http://{HOST}:{free_port()}")
    assert told(scan) == [("unanswered", "nobody answered for 3 of 3 packages (ConnectionError)")]
    assert scan.looked_at == "0 of 3 packages"
    assert told(audit_packages(tmp_path / "none", None))[0][0] == "unanswered"


def test_packages_that_were_skipped_have_no_answer(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip-audit ends well when it skipped packages: they must not count as safe."""
    monkeypatch.setattr(gate_scans, "_asked", lambda *_: ((("plum", ()),), "skipped by pip-audit"))
    assert told(audit_packages(lock, None)) == [
        ("unanswered", "nobody answered for 2 of 3 packages (skipped by pip-audit)")
    ]


def test_the_bill_of_materials_names_every_package(lock: Path, home: Path) -> None:
    bill = bill_of_materials(lock)
    assert told(scan_bill(lock, bill)) == [] and json.loads(bill.read_text())["bomFormat"] == "CycloneDX"
    made = bill.stat().st_mtime_ns
    assert bill_of_materials(lock) == bill and bill.stat().st_mtime_ns == made
    lock.write_text(lock.read_text().replace("plum==3.0.1", "plum==3.0.2"))
    assert told(scan_bill(lock, bill)) == [("high", "1 packages are not named, plum among them")]
    assert told(scan_bill(lock, None)) == [("high", "there is no bill of materials")]


@pytest.mark.parametrize(("change", "severities"), [(lambda file: None, []),
                                                    (lambda file: file.write_text("b"), ["critical"])])  # fmt: skip
def test_a_change_after_signing_is_critical(
    folder: Path, home: Path, change: Callable[[Path], None], severities: list[str]
) -> None:
    (folder / "a.txt").write_text("a")
    signing.sign(folder)
    change(folder / "a.txt")
    assert [one.severity for one in scan_signature(folder).findings] == severities


def test_dangerous_code_is_found_and_unreadable_code_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import subprocess\nsubprocess.run(input(), shell=True)\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    found = {one.severity for one in scan_code((str(tmp_path),)).findings}
    assert found == {"high", "low", "unanswered"}
