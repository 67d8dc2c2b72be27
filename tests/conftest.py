"""What all tests share: a home of their own, free ports, default settings.

pytest imports this file before any test module, and so before `workshop_lib` reads its settings.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values

from workshop_lib.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
SCRATCH = Path(tempfile.mkdtemp(prefix="workshop-tests-"))
_OF_THE_ENTRY_POINT = {"WORKSHOP_ENV", "WORKSHOP_PYTHON"}


# The tests are about the defaults, whatever this machine's owner has set.
for _name in list(os.environ):
    # A connection to S3 storage reaches the settings through the standard names.
    if _name.upper().startswith(("WORKSHOP_", "AWS_")) and _name not in _OF_THE_ENTRY_POINT:
        del os.environ[_name]
for _name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "PYTHONDONTWRITEBYTECODE"):
    os.environ.pop(_name, None)
os.environ |= {
    "WORKSHOP_HOME": str(SCRATCH / "home"),
    "WORKSHOP_PROGRESS": "false",
    "WORKSHOP_LANG": "en",
    "WORKSHOP_MLFLOW_PORT": str(free_port()),
    "WORKSHOP_LLM_PORT": str(free_port()),
    "WORKSHOP_FORECASTER_PORT": str(free_port()),
    "WORKSHOP_FORECASTER_GRPC_PORT": str(free_port()),
    "WORKSHOP_CACHE_PORT": str(free_port()),
    "WORKSHOP_API_PORT": str(free_port()),
    "WORKSHOP_DASHBOARD_PORT": str(free_port()),
    "WORKSHOP_MONITOR_PORT": str(free_port()),
    "IPYTHONDIR": str(SCRATCH / "ipython"),  # no startup files and no history of this machine's owner
}


def pytest_configure() -> None:
    # An empty variable does not hide a line of that file, so it cannot be neutralised from here.
    given = [name for name in dotenv_values(ROOT / ".env") if name.upper().startswith("WORKSHOP_")]
    if given:
        pytest.exit(f"The tests need the default settings. Move {ROOT / '.env'} away; it sets {', '.join(given)}.")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also what a compared notebook proves as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Quick tests first: whoever breaks one learns it in seconds. Whole notebooks come last."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip("runs with --long; a compared notebook makes the same experiment"))
    last = ("test_style.py", "test_structure.py", "test_run.py", "test_stored_outputs.py")
    items.sort(key=lambda item: last.index(item.path.name) if item.path.name in last else -1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin with what takes longest, in the background; see tests/notebooks/comparing.py."""
    alone = session.config.getoption("lf", False)  # what failed beside the notebooks is asked again without them
    if session.config.option.collectonly or not session.items or alone:
        return
    from tests.notebooks.comparing import EARLY, begin_early  # not before the variables above are set

    early = session.config.stash[EARLY] = begin_early(session.items, SCRATCH / "home of stored outputs")
    if early is not None and (reporter := session.config.pluginmanager.get_plugin("terminalreporter")):
        reporter.write_line("notebooks run in the background, beside the other tests")


def pytest_unconfigure(config: pytest.Config) -> None:
    from tests.notebooks.comparing import EARLY
    from workshop_lib import processes, services  # not before the variables above are set

    early = config.stash.get(EARLY, None)
    if early is not None:
        early.close()
    for service in services.services():
        processes.stop(service)
    shutil.rmtree(SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session", name="free_port")
def _free_port() -> Callable[[], int]:
    """A function that finds a loopback port that nothing listens on."""
    return free_port


@pytest.fixture
def use_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., object]:
    """Give the library's modules that are loaded other settings for one test: `use_settings(jobs=2)`.

    The home is a folder of the test's own unless another one is named.
    """
    from workshop_lib.settings import Settings

    def use(**changes: object) -> Settings:
        changed = Settings(**({"home": tmp_path / "home"} | changes))  # type: ignore[arg-type]
        for name, module in list(sys.modules.items()):
            # Not workshop_lib.settings itself: a module loaded later would keep the test's settings for good.
            if name.startswith("workshop_lib.") and name != "workshop_lib.settings" and hasattr(module, "settings"):
                monkeypatch.setattr(module, "settings", changed)
        return changed

    return use


@pytest.fixture
def home(use_settings: Callable[..., object], tmp_path: Path) -> Iterator[Path]:
    """A home of its own for one test, seen by every module of the library that is loaded."""
    use_settings()
    yield tmp_path / "home"
