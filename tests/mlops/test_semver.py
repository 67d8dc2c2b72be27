"""The kind of a change is decided by rules, and the registry remembers the number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from workshop_lib.mlops.semver import Change, Facts, Version, VersionError, decide

BASE = Facts(
    features=("lag_1", "lag_7", "weekday"),
    output="units",
    categories=("BREAD", "MILK"),
    data_fingerprint="d1",
    training_period=("2017-02-05", "2017-09-30"),
    weights="w1",
    configuration={"interval": {"coverage": 0.9}, "description": "first"},
)


@pytest.mark.parametrize("text", ["v1.2.3", "1.2.3"])
def test_a_version_is_read(text: str) -> None:
    assert Version.parse(text) == Version(1, 2, 3) and str(Version.parse(text)) == "v1.2.3"


@pytest.mark.parametrize(
    "text", ["", "v1", "1.2", "v1.2.3.4", "v1.2.x", "V1.2.3", "v01.2.3", "v1.2.3\n", "v-1.2.3", " v1.2.3"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(VersionError, match="three numbers without leading zeros"):
        Version.parse(text)


def test_versions_compare_by_their_numbers() -> None:
    texts = ["v1.10.0", "v1.9.3", "v2.0.0", "v1.9.12"]
    assert [str(version) for version in sorted(map(Version.parse, texts))] == ["v1.9.3", "v1.9.12", "v1.10.0", "v2.0.0"]


@pytest.mark.parametrize(("change", "expected"), [("major", "v3.0.0"), ("minor", "v2.5.0"), ("patch", "v2.4.7")])
def test_the_next_version(change: Change, expected: str) -> None:
    assert str(Version(2, 4, 6).bump(change)) == expected


def test_another_kind_of_change_is_refused() -> None:
    with pytest.raises(VersionError, match="'small' is no kind of change: major, minor, patch"):
        Version(1, 0, 0).bump("small")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "change", "reason"),
    [
        ({"features": ("lag_1", "lag_7")}, "major", "features removed: weekday"),
        ({"features": (*BASE.features, "price")}, "major", "features added: price"),
        ({"features": ("lag_7", "lag_1", "weekday")}, "major", "features in another order"),
        ({"output": "revenue"}, "major", "output revenue instead of units"),
        ({"categories": ("MILK",)}, "major", "categories removed: BREAD"),
        ({"categories": ("BREAD", "EGGS", "MILK")}, "minor", "categories added: EGGS"),
        ({"data_fingerprint": "d2"}, "minor", "other data"),
        ({"training_period": ("2017-02-05", "2017-11-07")}, "minor", "training period 2017-02-05 to 2017-11-07"),
        ({"weights": "w2"}, "minor", "other weights"),
        ({"configuration": dict(BASE.configuration) | {"interval": {}}}, "patch", "configuration: interval"),
        ({"configuration": {"description": "first"}}, "patch", "configuration: interval"),
        ({"configuration": dict(BASE.configuration) | {"limit": 1}}, "patch", "configuration: limit"),
        ({}, "patch", "registered again, nothing differs"),
        ({"categories": ("MILK", "BREAD")}, "patch", "registered again, nothing differs"),  # a set, not an order
    ],
)  # fmt: skip
def test_a_rule_decides(changes: dict[str, object], change: str, reason: str) -> None:
    decision = decide(BASE, replace(BASE, **changes))  # type: ignore[arg-type]
    assert (decision.change, decision.reasons) == (change, (reason,))


def test_the_gravest_change_decides_and_all_its_reasons_are_given() -> None:
    after = replace(BASE, features=("lag_1", "price"), output="revenue", weights="w2", data_fingerprint="d2")
    decision = decide(BASE, after)
    assert decision.change == "major"
    assert decision.reasons == (
        "features removed: lag_7, weekday", "features added: price", "output revenue instead of units"
    )  # fmt: skip
    retrained = decide(BASE, replace(BASE, weights="w2", data_fingerprint="d2", configuration={}))
    assert (retrained.change, retrained.reasons) == ("minor", ("other data", "other weights"))


def test_long_lists_are_shortened() -> None:
    decision = decide(replace(BASE, categories=tuple("ABCDEF")), replace(BASE, categories=("A",)))
    assert decision.reasons == ("categories removed: B, C, D and 2 more",)
