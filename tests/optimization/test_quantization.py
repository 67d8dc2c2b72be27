"""Seven ways to run one network, what they cost and save, and trees that stay as they are."""

from pathlib import Path

import numpy as np
import onnx
import openvino
import pandas as pd
import pytest
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestRegressor

from tests.optimization.students import QUICK, small_dataset, small_student
from workshop_lib.optimization import distillation, quantization, quantization_speed
from workshop_lib.optimization.distillation import Student
from workshop_lib.optimization.quantization import FLOAT, ONNX_RUNTIME, OPENVINO, Variant
from workshop_lib.predictive import openvino_trees
from workshop_lib.predictive.features import FEATURES
from workshop_lib.predictive.forecaster import Dataset

ALL = [
    "ONNX Runtime float32", "ONNX Runtime INT8, dynamic", "ONNX Runtime INT8, static",
    "OpenVINO float32", "OpenVINO bfloat16", "OpenVINO INT8", "OpenVINO INT8, controlled",
]  # fmt: skip
INT8 = [name for name in ALL if "INT8" in name]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return small_dataset()


@pytest.fixture(scope="module")
def variants(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Variant]:
    """Of a network that is wide enough for its weights to be most of its files."""
    return build(small_student((256, 128)), dataset, tmp_path_factory.mktemp("variants"))


def build(student: Student, dataset: Dataset, folder: Path) -> list[Variant]:
    distillation.write_onnx(student, folder / "student.onnx")
    calibration = dataset.rows(dataset.split.train)[0].to_numpy()
    later = dataset.rows(dataset.split.validation)[0]
    return quantization.build_variants(folder / "student.onnx", folder / "files", calibration, later)


def accuracy(variants: list[Variant], dataset: Dataset) -> pd.DataFrame:
    return quantization.accuracy(variants, *dataset.rows(dataset.split.test))


def test_every_variant_answers_nearly_the_same(variants: list[Variant], dataset: Dataset) -> None:
    table = accuracy(variants, dataset)
    assert table.index.tolist() == ALL
    assert (table.loc[list(FLOAT.values()), "to float32"] == 0).all()
    assert table.loc[INT8, "to float32"].between(1e-6, 0.03).all()  # it is rounded, and not by much
    assert np.ptp(table.loc[list(FLOAT.values()), "WAPE"]) < 1e-4


def test_int8_files_are_a_quarter_and_some(variants: list[Variant]) -> None:
    size = {variant.name: variant.bytes for variant in variants}
    for name in INT8:
        base = FLOAT[ONNX_RUNTIME if name.startswith(ONNX_RUNTIME) else OPENVINO]
        assert 0.25 < size[name] / size[base] < 0.5, name
    assert size["OpenVINO bfloat16"] == size["OpenVINO float32"]  # one file: only the arithmetic differs


def test_the_files_hold_what_their_names_say(variants: list[Variant]) -> None:
    found = {variant.name: quantization.operations(variant.file) for variant in variants}
    assert all((found[name]["INT8 operations"] > 0) == ("INT8" in name) for name in ALL)
    layers = len(QUICK["hidden"]) + 1
    assert found["ONNX Runtime INT8, dynamic"] == {
        "tree operations": 0, "matrix products": 0, "INT8 operations": layers + layers,
    }  # fmt: skip
    assert all(found[name]["matrix products"] == layers for name in ALL if "dynamic" not in name)
    assert all(found[name]["tree operations"] == 0 for name in ALL)


def test_the_precision_is_said_and_not_left_to_the_processor(variants: list[Variant]) -> None:
    hints = {variant.name: variant.options.get("INFERENCE_PRECISION_HINT") for variant in variants}
    assert [hints[name] for name in ALL] == [None, None, None, "f32", "bf16", "f32", "f32"]
    compiled = openvino_trees.compile_model(variants[3].file, **variants[3].options)
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


def test_inputs_of_different_sizes_ruin_plain_int8_and_control_saves_it(dataset: Dataset, tmp_path: Path) -> None:
    student = small_student()
    fine = accuracy(build(student, dataset, tmp_path / "fine"), dataset)["to float32"]
    table = accuracy(build(distillation.folded(student), dataset, tmp_path / "folded"), dataset)["to float32"]
    for name in ("ONNX Runtime INT8, dynamic", "ONNX Runtime INT8, static", "OpenVINO INT8"):
        assert table[name] > 2 * fine[name], name
    assert table["OpenVINO INT8, controlled"] < 0.011 < table["OpenVINO INT8"]


def test_trees_stay_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, len(FEATURES))).astype(np.float32)
    forest = RandomForestRegressor(5, max_depth=6, random_state=0).fit(rows, rows[:, 0] * 10)
    proto = to_onnx(forest, rows[:1], target_opset={"": 17, "ai.onnx.ml": 3})
    proto.opset_import.extend([onnx.helper.make_opsetid("", 17)])  # listed twice, as converters may do
    source = tmp_path / "forest.onnx"
    onnx.save(proto, source)
    # ONNX Runtime wants the input under the course's name.
    proto.graph.node[0].input[0] = proto.graph.input[0].name = "features"
    del proto.opset_import[-1]
    onnx.save(proto, tmp_path / "named.onnx")
    proto.opset_import.extend([onnx.helper.make_opsetid("", 17)])
    onnx.save(proto, source)
    ir_file = openvino_trees.save_ir(openvino_trees.read_model(tmp_path / "named.onnx"), tmp_path / "ir")
    table = quantization.try_on_trees(tmp_path / "named.onnx", ir_file, tmp_path / "out", rows)
    quantization.quantise_dynamic(source, tmp_path / "deduplicated.onnx")
    assert len(onnx.load(str(tmp_path / "deduplicated.onnx")).opset_import) == 2
    for runtime in (ONNX_RUNTIME, OPENVINO):
        before, after = table.loc[(runtime, "as it is")], table.loc[(runtime, "after INT8")]
        assert before["tree operations"] == after["tree operations"] > 0
        assert (before["matrix products"], after["matrix products"], after["INT8 operations"]) == (0, 0, 0)
        assert after["largest difference"] == 0 and abs(after["bytes"] / before["bytes"] - 1) < 0.05


def test_a_file_is_replaced_as_a_whole_or_not_at_all(
    variants: list[Variant], dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = variants[3].file, tmp_path / "nncf.xml"
    calibration = dataset.rows(dataset.split.train)[0].to_numpy()[:256]
    quantization.quantise_nncf(source, target, calibration)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"nncf.xml", "nncf.bin"}

    def interrupted(model: object, draft: Path, **options: object) -> None:
        Path(draft).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(quantization.openvino, "save_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantization.quantise_nncf(source, target, calibration)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_race_goes_round_and_measures_all(variants: list[Variant], dataset: Dataset) -> None:
    rows = dataset.features.to_numpy()[:256]
    times = quantization_speed.race(variants, rows, batches=(1, 256), rounds=3, seconds=0.001)
    assert len(times) == 3 * 2 * len(ALL) and (times["ms"] > 0).all()
    firsts = times[times["batch"] == 1].groupby("round")["variant"].first().tolist()
    assert firsts == ALL[:3]  # each round begins with another one
    table = quantization_speed.milliseconds(times)
    assert table.index.tolist() == ALL and table.columns.tolist() == [1, 256]
    assert (table[256] > table[1]).all()
    with pytest.raises(ValueError, match="largest batch has 512 rows, 256 were given"):
        quantization_speed.race(variants, rows, batches=(1, 512))


def test_time_saved_is_against_the_same_round_and_runtime(variants: list[Variant]) -> None:
    # The machine gets slower from round to round: what is saved stays the same.
    slow = {1: 1.0, 2: 10.0, 3: 20.0}
    base = {ALL[0]: 8.0, ALL[1]: 4.0, ALL[2]: 6.0, ALL[3]: 2.0, ALL[4]: 1.0, ALL[5]: 0.5, ALL[6]: 3.0}
    rows = [(n, 64, name, ms * slow[n]) for n in slow for name, ms in base.items()]
    saved = quantization_speed.time_saved(pd.DataFrame(rows, columns=["round", "batch", "variant", "ms"]), variants)
    assert saved[64].round(6).to_dict() == {
        ALL[1]: 0.5, ALL[2]: 0.25, ALL[4]: 0.5, ALL[5]: 0.75, ALL[6]: -0.5,
    }  # fmt: skip


def test_memory_is_that_of_a_process_of_its_own(variants: list[Variant]) -> None:
    table = quantization_speed.memory([variants[0], variants[4]])
    assert table.index.tolist() == [ALL[0], ALL[4]]
    assert table["runtime"].between(5, 200).all() and table["model"].between(0.1, 200).all()
