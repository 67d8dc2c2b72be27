"""A version ends without a lost request, and leaves an archive that can be trusted, for as long as it was promised."""

import datetime as dt
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from mlflow.tracking import MlflowClient

from workshop_lib.mlops import approvals, audit, packages, retirement, signing
from workshop_lib.mlops.approvals import ApprovalRefused
from workshop_lib.mlops.packages import Package
from workshop_lib.mlops.retirement import NotDrained, Retired
from workshop_lib.mlops.risk import load_inventory
from workshop_lib.processes import Service
from workshop_lib.serving.release_servers import Server
from workshop_lib.serving.routing import Routes, RoutesError, read_routes, write_routes
from workshop_lib.settings import Settings

NAME = "retiring-forecaster"


class Endpoint(ThreadingHTTPServer):
    """Answers as a forecaster does, and counts."""

    count = 0

    class RequestHandlerClass(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.server.count += 1  # type: ignore[attr-defined]
            self.rfile.read(int(self.headers["content-length"]))
            self.reply("{}")

        def do_GET(self) -> None:
            count = self.server.count  # type: ignore[attr-defined]
            self.reply(f'# TYPE http_requests_total counter\nhttp_requests_total{{path="infer"}} {count}\n')

        def reply(self, text: str) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.RequestHandlerClass)
        Thread(target=self.serve_forever, daemon=True).start()

    def server_for(self, name: str) -> Server:
        return Server(name, "1", Service(f"retirement-{name}", self.server_address[1], ("true",), "/"))


@pytest.fixture
def endpoints() -> Iterator[tuple[Endpoint, Endpoint]]:
    both = Endpoint(), Endpoint()
    yield both
    for one in both:
        one.shutdown()
        one.server_close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry of its own: making its database takes seconds."""
    address = f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"
    MlflowClient(address).create_registered_model(NAME)
    return address


@pytest.fixture
def package(use_settings: Callable[..., Settings], registry: str, tmp_path: Path) -> Package:
    home = use_settings(mlflow_uri=registry).home
    number = MlflowClient(registry).create_model_version(NAME, source=tmp_path.as_uri()).version
    folder = home / "mlops" / "packages" / f"{NAME}-v1.0.0"
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"numbers")
    files = {"model.bin": packages.sha256(folder / "model.bin")}
    about = {
        "name": NAME,
        "version": "v1.0.0",
        "registry_version": str(number),
        "data_fingerprint": "f1",
        "files": files,
    }
    (folder / packages.PACKAGE_JSON).write_text(json.dumps(about))
    signing.sign(folder)
    return packages.load(folder)


def run(package: Package, endpoints: tuple[Endpoint, Endpoint], routes: Path, actor: str = "olga",
        living: tuple[Package, ...] = ()) -> Retired:  # fmt: skip
    return retirement.retire(
        package, server=endpoints[0].server_for("old"), routes=routes, actor=actor, reason="replaced", living=living
    )


@pytest.fixture
def routes(tmp_path: Path, endpoints: tuple[Endpoint, Endpoint]) -> Path:
    path = tmp_path / "routes.json"
    old, new = endpoints
    write_routes(Routes(backends=(old.server_for("old").backend(50), new.server_for("new").backend(50))), path)
    return path


def test_who_calls_notices_nothing(package: Package, endpoints: tuple[Endpoint, Endpoint], routes: Path) -> None:
    with retirement.traffic(routes, width=3, pause=0.002) as seen:
        seen.wait(40)
        run(package, endpoints, routes)
        after = len(seen.rows)
        seen.wait(20)
    requests = seen.frame()
    assert set(requests["backend"].iloc[:40]) == {"old", "new"}
    assert requests["ok"].all()
    assert set(requests["backend"].iloc[after + 1 :]) == {"new"}
    assert {one.name: one.weight for one in read_routes(routes).backends} == {"old": 0, "new": 50}
    assert approvals.state(NAME, "v1.0.0") == "retired"


def test_the_archive_is_whole_and_a_changed_one_is_refused(
    package: Package, endpoints: tuple[Endpoint, Endpoint], routes: Path, tmp_path: Path
) -> None:
    done = run(package, endpoints, routes)
    assert not package.folder.exists()
    assert retirement.restore(done.archive, tmp_path / "back").about == package.about
    assert audit.read()[-1].details["sha256"] == done.sha256
    (tmp_path / "back" / package.folder.name / "model.bin").write_bytes(b"other")
    changed = retirement.archive(Package(tmp_path / "back" / package.folder.name, {}))
    with pytest.raises(signing.SignatureError):
        retirement.restore(changed, tmp_path / "again")


def test_data_stays_as_long_as_somebody_needs_it(
    package: Package, endpoints: tuple[Endpoint, Endpoint], routes: Path
) -> None:
    other = Package(Path("other"), package.about | {"version": "v1.1.0"})
    assert "v1.1.0 was trained on it too" in run(package, endpoints, routes, living=(other,)).data


def test_an_archive_goes_when_its_time_is_over(
    package: Package, endpoints: tuple[Endpoint, Endpoint], routes: Path
) -> None:
    done = run(package, endpoints, routes)
    assert done.data.startswith("to be erased")
    assert (done.keep_until - dt.datetime.now(dt.UTC).date()).days == load_inventory().archive_days
    assert retirement.purge(done.keep_until) == []
    assert retirement.purge(done.keep_until + dt.timedelta(days=1)) == [done.archive.name]
    assert not done.archive.exists() and audit.verify() == 2


def test_nothing_happens_without_the_right_or_with_an_alias(
    package: Package, endpoints: tuple[Endpoint, Endpoint], routes: Path, registry: str
) -> None:
    before = routes.read_text()
    with pytest.raises(ApprovalRefused, match="ana may not"):
        run(package, endpoints, routes, actor="ana")
    MlflowClient(registry).set_registered_model_alias(NAME, "champion", package.about["registry_version"])
    with pytest.raises(ApprovalRefused, match="is the champion"):
        run(package, endpoints, routes)
    assert routes.read_text() == before and package.folder.exists()


def test_the_only_version_cannot_go(package: Package, endpoints: tuple[Endpoint, Endpoint], routes: Path) -> None:
    write_routes(Routes(backends=(endpoints[0].server_for("old").backend(100),)), routes)
    with pytest.raises(RoutesError):
        run(package, endpoints, routes)
    assert package.folder.exists()


def test_a_server_that_is_still_asked_goes_on_running(
    package: Package, endpoints: tuple[Endpoint, Endpoint], routes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = iter(range(1_000_000))
    monkeypatch.setattr(retirement, "answered", lambda server: next(counter))
    with pytest.raises(NotDrained):
        run(package, endpoints, routes)
    assert package.folder.exists() and approvals.state(NAME, "v1.0.0") == "draft"
