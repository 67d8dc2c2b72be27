"""Progress bars: seen while work runs, silent where nobody watches, and never in the way of the work."""

from collections.abc import Callable

import pytest

from workshop_lib.progress import steps, track


@pytest.mark.parametrize("shown", [False, True])
def test_items_and_tasks_pass_through_in_order(
    shown: bool, use_settings: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    use_settings(progress=shown)
    assert list(track(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    assert [task() for task in steps("Sums", [("one", lambda: 1), ("two", lambda: 2)])] == [1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert (("letters" in err), ("Sums" in err), ("two" in err)) == (shown, shown, shown)
