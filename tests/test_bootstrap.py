"""The entry point `./workshop`: what it installs and when, and what it says when it cannot.

The script under test is the real one, in a small checkout with a space in its path. Python and uv are stand-ins
that note how they were called, so nothing is downloaded; the messages they print on failure are pip's and uv's own.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = "awk bash cat chmod cp cut dirname du env flock grep head ls mkdir mv readlink rm sed sha256sum sleep stat tail"

# Answers the script's questions about a Python, makes "virtual environments", and stands in for pip and the course.
PYTHON = """#!/bin/bash
case "$*" in
-c*)
    if [[ -n "$NO_START" ]]; then exit 127; fi
    printf '%s\\n' "${FAKE_VERSION:-3.11.7}" "${0%/bin/*}" "$0" "$BASE_PYTHON"
    printf '%s\\n' "${FAKE_VENV:-venv}" "${FAKE_OWNER:-own}" ;;
"-m venv -- "*)
    echo venv >>"$CALLS"
    mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && echo "version = ${FAKE_VERSION:-3.11.7}" >"$4/pyvenv.cfg" ;;
"-m pip config list") printf '%b' "$FAKE_PIP_CONFIG" ;;
"-m pip install "*)
    echo "pip $4${PIP_USER:+ into the home folder}" >>"$CALLS"
    if [[ -n "$FAKE_PIP_FAILS" ]]; then echo "$FAKE_PIP_FAILS" >&2; exit 1; fi
    cp "$UV" "${0%/*}/uv" ;;
"-P -m workshop_lib.cli"*)
    if [[ -e /proc/$$/fd/9 ]]; then echo "keeps the installation locked"; fi
    echo "course in $PWD"; shift 3; printf 'argument %s\\n' "$@"; env ;;
*) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""
UV = """#!/bin/bash
[[ "$1" == --directory ]] && cd "$2" && shift 2
echo "uv $*" >>"$CALLS"
env | grep -E '^(UV_|SSL_|ALL_PROXY)' >>"$CALLS"
fail_with() { if [[ -n "$1" ]]; then printf '%b\\n' "$1" >&2; exit 2; fi; }
case "$*" in
*--dry-run*) fail_with "$FAKE_TORCH_FAILS" ;;
*requirements.lock*)
    fail_with "$FAKE_UV_FAILS"
    if [[ -n "$FAKE_UV_SLEEPS" ]]; then : >"$CALLS.asleep"; exec sleep "$FAKE_UV_SLEEPS"; fi ;;
*--editable*) fail_with "$FAKE_BUILD_FAILS" ;;
esac
"""


@dataclass
class Checkout:
    """A small copy of the project and the bare machine that it stands on."""

    base: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tools.mkdir()
        for tool in TOOLS.split():
            found = shutil.which(tool)
            assert found, tool
            (self.tools / tool).symlink_to(found)
        self.tool("df", "echo; echo / 0 0 ${FREE_MB:-99999} 0 /")
        self.tool("uname", "echo ${MACHINE:-Linux x86_64}")
        self.program(self.tools / "python3.11", PYTHON)
        self.program(self.base / "uv", UV)
        self.root.mkdir()
        shutil.copy(ROOT / "workshop", self.root)
        (self.root / "requirements.lock").write_text("pandas==2.3.3\ntorch==2.13.0+cpu\nuv==0.13.8\n")
        (self.root / "pyproject.toml").write_text('[project]\nname = "workshop_lib"\n')
        self.env = {
            **{"PATH": str(self.tools), "HOME": str(self.base / "home"), "CALLS": str(self.base / "calls")},
            **{"UV": str(self.base / "uv"), "BASE_PYTHON": str(self.tools / "python3.11")},
        }

    @property
    def root(self) -> Path:
        return self.base / "a checkout"

    @property
    def tools(self) -> Path:
        return self.base / "tools"

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def script(self) -> Path:
        return self.root / "workshop"

    def program(self, path: Path, text: str) -> None:
        path.unlink(missing_ok=True)  # to write through a link would change the machine's own tool
        path.write_text(text)
        path.chmod(0o755)

    def tool(self, name: str, command: str) -> None:
        self.program(self.tools / name, f"#!/bin/bash\n{command}\n")

    def calls(self) -> list[str]:
        """How Python and uv were called since the last question."""
        log = Path(self.env["CALLS"])
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def start(
        self, *arguments: str, command: str = "", cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [command or str(self.script), *arguments],
            cwd=cwd or self.base,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_listen_to_signals,
        )

    def run(
        self, *arguments: str, command: str = "", cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        process = self.start(*arguments, command=command, cwd=cwd, env=env)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def installs(self, **env: str) -> str:
        """Run it, expect success; returns what it said about the installation."""
        code, out, err = self.run("status", env=env)
        assert code == 0, err
        assert "argument status" in out
        return err

    def fails(self, **env: str) -> str:
        """Run it, expect one message and no course; returns the message."""
        code, out, err = self.run("status", env=env)
        assert code == 1, (code, err)
        assert out == ""
        assert err.count("workshop: ") == 1, err
        message = err[err.index("workshop: ") :]
        assert len(message.splitlines()) in (2, 3), message
        assert "workshop: line" not in err  # how bash itself complains
        return message

    def is_current(self) -> bool:
        """Whether a call would install nothing."""
        self.calls()
        return self.installs() == "" and self.calls() == []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


# --- All is well ----------------------------------------------------------------------------------


def test_the_first_call_installs_the_lock_and_then_does_what_was_asked(checkout: Checkout) -> None:
    code, out, err = checkout.run("--help", "two words", env={"PIP_USER": "1"})
    assert code == 0
    assert "keeps the installation locked" not in out
    assert re.findall("argument (.*)", out) == ["--help", "two words"]
    assert "environment comes first" in err
    assert "Installing 3 packages" in err
    assert str(checkout.root / "generated/logs/install.log") in err
    python = checkout.venv / "bin" / "python"
    assert [call for call in checkout.calls() if "=" not in call.split()[0]] == [
        "venv",
        "pip uv==0.13.8",
        f"uv pip install --python {python} --dry-run --no-deps --reinstall-package torch torch==2.13.0+cpu",
        f"uv pip sync requirements.lock --python {python} --no-build --compile-bytecode",
        f"uv pip install --python {python} --no-deps --editable .",
    ]


def test_a_second_call_does_only_what_was_asked(checkout: Checkout) -> None:
    checkout.installs()
    checkout.calls()
    started = time.monotonic()
    code, out, err = checkout.run("doctor")
    assert time.monotonic() - started < 60
    assert (code, err) == (0, "")
    assert "argument doctor" in out
    assert checkout.calls() == []


def test_it_works_from_any_folder_and_through_symlinks(checkout: Checkout) -> None:
    elsewhere = checkout.base / "else where"
    elsewhere.mkdir()
    (elsewhere / "course").symlink_to(checkout.script)
    (checkout.tools / "on-the-path").symlink_to("../else where/course")
    for command in ("./course", "../a checkout/workshop", "on-the-path"):
        code, out, err = checkout.run(command=command, cwd=elsewhere)
        assert code == 0, err
        assert f"course in {elsewhere}\n" in out
    assert checkout.calls().count("venv") == 1
    assert not (elsewhere / "generated").exists()


def test_no_other_environment_leaks_in(checkout: Checkout) -> None:
    checkout.installs()
    foreign = {"PYTHONPATH": "/x", "PYTHONHOME": "/x", "PYTHONDONTWRITEBYTECODE": "1", "VIRTUAL_ENV": "/x"}
    _, out, _ = checkout.run(env=foreign)
    seen = dict(line.partition("=")[::2] for line in out.splitlines() if "=" in line)
    assert {"PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"} & seen.keys() == set()
    assert seen["VIRTUAL_ENV"] == str(checkout.venv)
    assert seen["PATH"].split(":")[0] == str(checkout.venv / "bin")


SPANISH = [
    ({"WORKSHOP_LANG": "es"}, ()),
    ({"LANG": "es_MX.UTF-8"}, ()),
    ({"LANG": "en_GB.UTF-8"}, ("status", "--lang", "es")),
]


@pytest.mark.parametrize(("env", "arguments"), SPANISH)
def test_it_speaks_the_learners_language(checkout: Checkout, env: dict[str, str], arguments: tuple[str, ...]) -> None:
    (checkout.root / "locale").symlink_to(ROOT / "locale")
    _, _, err = checkout.run(*arguments, env=env)
    assert f"Primero, el entorno de Python del curso: {checkout.venv}" in err
    assert "Instalando 3 paquetes y compilándolos a bytecode" in err
    assert "Listo en" in err and "{" not in err
    (checkout.root / "pyproject.toml").write_text("changed")
    _, _, err = checkout.run(*arguments, env={**env, "FAKE_UV_FAILS": UNTRUSTED})
    assert "el certificado del índice de paquetes (mirror.example) no es de confianza." in err
    assert "Después vuelve a llamar a ./workshop." in err


def test_without_a_catalogue_it_speaks_english(checkout: Checkout) -> None:
    assert "environment comes first" in checkout.installs(WORKSHOP_LANG="fr")


def test_a_value_with_signs_of_the_shell_is_told_as_it_is(checkout: Checkout) -> None:
    assert "no Python at /no/{0}&1" in checkout.fails(WORKSHOP_PYTHON="/no/{0}&1")


# --- What makes it install again ------------------------------------------------------------------


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml", "the recipe", "the Python's version"])
def test_a_change_is_brought_in_without_starting_over(checkout: Checkout, changed: str) -> None:
    checkout.installs()
    if changed == "the recipe":
        checkout.script.write_text(checkout.script.read_text().replace("--compile-bytecode", "--no-compile"))
    elif changed == "the Python's version":
        (checkout.venv / "pyvenv.cfg").write_text("version = 3.11.9\n")
    else:
        with (checkout.root / changed).open("a") as file:
            file.write("tqdm==4.70.1\n")
    checkout.calls()
    assert "environment comes first" in checkout.installs()
    calls = checkout.calls()
    assert "venv" not in calls
    assert any(call.startswith("uv pip sync") for call in calls)
    assert checkout.is_current()


def test_a_comment_in_the_script_is_no_reason_to_install(checkout: Checkout) -> None:
    checkout.installs()
    checkout.script.write_text(checkout.script.read_text() + "# a remark\n")
    assert checkout.is_current()


def test_a_moved_checkout_gets_a_new_environment(checkout: Checkout) -> None:
    # Scripts in a virtual environment name its absolute path.
    checkout.installs()
    moved = checkout.base / "moved"
    checkout.root.rename(moved)
    (moved / ".venv" / "left over").touch()
    checkout.calls()
    code, _, err = checkout.run("x", command=str(moved / "workshop"))
    assert code == 0, err
    assert "venv" in checkout.calls()
    assert not (moved / ".venv" / "left over").exists()


def test_an_environment_elsewhere_follows_the_checkout_that_uses_it(checkout: Checkout) -> None:
    shared = {"WORKSHOP_ENV": str(checkout.base / "shared")}
    checkout.installs(**shared)
    moved = checkout.base / "moved"
    checkout.root.rename(moved)
    checkout.calls()
    checkout.run(command=str(moved / "workshop"), env=shared)
    calls = checkout.calls()
    assert "venv" not in calls
    assert any("--editable" in call for call in calls)


def test_another_python_gets_a_new_environment(checkout: Checkout) -> None:
    checkout.installs()
    other = checkout.base / "python3.12"
    shutil.copy(checkout.tools / "python3.11", other)
    python = {"WORKSHOP_PYTHON": str(other), "BASE_PYTHON": str(other), "FAKE_VERSION": "3.12.1"}
    (checkout.venv / "left over").touch()
    assert "Python 3.12.1" in checkout.installs(**python)
    assert not (checkout.venv / "left over").exists()


# --- What an interrupted installation leaves behind -----------------------------------------------


@pytest.mark.parametrize(
    "left", ["empty folder", "no Python", "dead Python", "no stamp", "half a stamp", "other stamp"]
)
def test_a_half_made_environment_is_made_anew(checkout: Checkout, left: str) -> None:
    checkout.installs()
    stamp, python = checkout.venv / ".workshop-stamp", checkout.venv / "bin" / "python"
    (checkout.venv / "left over").touch()
    if left == "empty folder":
        shutil.rmtree(checkout.venv)
        checkout.venv.mkdir()
    elif left == "no Python":
        python.unlink()
    elif left == "dead Python":
        python.unlink()
        python.symlink_to("/nowhere/python3.11")
    elif left == "no stamp":
        stamp.unlink()
    elif left == "half a stamp":
        stamp.write_text(stamp.read_text().splitlines()[0] + "\n")
    else:
        stamp.write_text("/elsewhere /usr/bin/python3\nx\n")
    checkout.calls()
    checkout.installs()
    assert "venv" in checkout.calls()
    assert not (checkout.venv / "left over").exists()
    assert checkout.is_current()


def _listen_to_signals() -> None:
    """A suite in the background (nohup, &) ignores these and would hand that on."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def sleeping(checkout: Checkout) -> subprocess.Popen[str]:
    """An installation that has come to the packages and stays there."""
    process = checkout.start(env={"FAKE_UV_SLEEPS": "20"})
    asleep = Path(checkout.env["CALLS"] + ".asleep")
    deadline = time.monotonic() + 20
    while not asleep.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    asleep.unlink()
    return process


def test_a_killed_installation_is_finished_by_the_next_call(checkout: Checkout) -> None:
    process = sleeping(checkout)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    checkout.calls()
    checkout.installs()
    assert "venv" in checkout.calls()
    assert checkout.is_current()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_is_acted_on_at_once_and_said_in_one_message(checkout: Checkout, how: signal.Signals) -> None:
    process = sleeping(checkout)
    started = time.monotonic()
    process.send_signal(how)
    out, err = process.communicate(timeout=10)
    with pytest.raises(ProcessLookupError):
        while time.monotonic() - started < 5:  # the stand-in would sleep for 20 seconds
            os.killpg(process.pid, 0)
            time.sleep(0.02)
    assert process.returncode == 130
    assert out == ""
    assert "workshop: interrupted.\n  Call ./workshop again" in err
    checkout.installs()
    assert checkout.is_current()


def test_a_second_call_waits_for_the_first(checkout: Checkout) -> None:
    first = sleeping(checkout)
    second = checkout.start("second")
    assert second.stderr is not None
    assert "Another call" in second.stderr.readline()
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    out, err = second.communicate(timeout=20)
    assert second.returncode == 0, err
    assert "argument second" in out


def test_of_two_calls_at_once_one_installs(checkout: Checkout) -> None:
    for process in [checkout.start("x", env={"FAKE_UV_SLEEPS": "0.5"}) for _ in range(4)]:
        out, err = process.communicate(timeout=20)
        assert "argument x" in out, err
    assert sum(call.startswith("uv pip sync") for call in checkout.calls()) == 1


# --- Which Python ---------------------------------------------------------------------------------


def test_without_a_fitting_python_it_says_what_was_found(checkout: Checkout) -> None:
    (checkout.tools / "python3.11").rename(checkout.tools / "python3")
    checkout.tool("python3.12", "echo 'python3.12: command not found' >&2; exit 127")  # a version manager's shim
    message = checkout.fails(FAKE_VERSION="3.10.13")
    assert "Python 3.11 or 3.12 is needed" in message
    assert "Found: python3.12 does not start; python3 is Python 3.10.13." in message
    assert "WORKSHOP_PYTHON=" in message
    assert "python3 is Python 3.13.0" in checkout.fails(FAKE_VERSION="3.13.0")
    (checkout.tools / "python3").unlink()
    (checkout.tools / "python3.12").unlink()
    assert "Found: no Python." in checkout.fails()
    assert not checkout.venv.exists()


def test_a_dead_shim_does_not_hide_a_python_that_works(checkout: Checkout) -> None:
    (checkout.tools / "python3.11").rename(checkout.tools / "python")
    checkout.tool("python3.11", "exit 127")
    python = str(checkout.tools / "python")
    assert "Making a virtual environment with Python 3.12.4" in checkout.installs(
        FAKE_VERSION="3.12.4", BASE_PYTHON=python
    )


def test_a_python_that_was_asked_for_is_not_replaced(checkout: Checkout) -> None:
    assert "no Python at /nowhere/python" in checkout.fails(WORKSHOP_PYTHON="/nowhere/python")
    old = checkout.base / "old"
    checkout.program(old, PYTHON.replace("3.11.7", "3.9.2"))
    assert f"{old} is Python 3.9.2" in checkout.fails(WORKSHOP_PYTHON=str(old))


def test_a_missing_venv_module_is_named_with_its_package(checkout: Checkout) -> None:
    message = checkout.fails(FAKE_VENV="no venv")
    assert "Python 3.11 is here, but not its venv module" in message
    assert "apt-get install python3.11-venv" in message
    checkout.installs()


@pytest.mark.parametrize("machine", ["Darwin arm64", "Linux aarch64", "MINGW64_NT-10.0 x86_64"])
def test_other_platforms_are_turned_away(checkout: Checkout, machine: str) -> None:
    message = checkout.fails(MACHINE=machine)
    assert f"runs on Linux x86_64, and this is {machine}." in message
    assert "WSL2" in message and "OpenShift AI workbench" in message


# --- Disk and folders -----------------------------------------------------------------------------


def test_a_full_disk_is_noticed_before_anything_is_installed(checkout: Checkout) -> None:
    message = checkout.fails(FREE_MB="2500")
    assert "6.0 GB are needed, 2.5 GB are free, 3.5 GB are missing." in message
    assert str(checkout.venv) in message
    assert "venv" not in checkout.calls()
    checkout.installs(FREE_MB="6000")


def test_a_changed_lock_needs_less_space(checkout: Checkout) -> None:
    checkout.installs()
    (checkout.root / "requirements.lock").write_text("torch==2.13.0+cpu\nuv==0.13.8\n")
    assert "1.5 GB are needed, 1.4 GB are free, 0.1 GB are missing." in checkout.fails(FREE_MB="1400")
    checkout.installs(FREE_MB="1600")


def test_what_was_downloaded_already_is_not_asked_for_again(checkout: Checkout) -> None:
    cache = checkout.base / "home" / ".cache" / "uv"
    cache.mkdir(parents=True)
    checkout.tool("du", r"printf '4000\t%s\n' cache")
    assert "2.0 GB are needed" in checkout.fails(FREE_MB="1900")
    checkout.installs(FREE_MB="2100")


def test_a_folder_that_cannot_be_written_to_is_named(checkout: Checkout) -> None:
    message = checkout.fails(WORKSHOP_ENV="/proc/environment")  # nobody can write there, not even root
    assert "/proc/environment cannot be written to" in message and "WORKSHOP_ENV" in message
    message = checkout.fails(WORKSHOP_HOME="/proc/generated")
    assert "/proc/generated/logs cannot be written to" in message and "WORKSHOP_HOME" in message


def test_a_folder_with_other_things_in_it_is_left_alone(checkout: Checkout) -> None:
    mine = checkout.base / "my documents"
    mine.mkdir()
    (mine / "thesis.txt").touch()
    assert "was not made by this script" in checkout.fails(WORKSHOP_ENV=str(mine))
    assert (mine / "thesis.txt").exists()


def test_the_environment_can_live_elsewhere(checkout: Checkout) -> None:
    (checkout.base / "big disk" / "env").mkdir(parents=True)
    checkout.installs(WORKSHOP_ENV="big disk/env", WORKSHOP_HOME="made here")
    assert (checkout.base / "big disk" / "env" / "bin" / "python").exists()
    assert (checkout.root / "made here" / "logs" / "install.log").exists()
    assert not checkout.venv.exists()


# --- The package index ----------------------------------------------------------------------------

UNREACHABLE = """error: Request failed after 3 retries in 5.4s
  cause: Failed to fetch: https://user:secret@mirror.example/simple/pandas/
  cause: client error (Connect)
  cause: dns error"""
FORBIDDEN = """error: Failed to fetch: `https://mirror.example/simple/pandas/`
  cause: HTTP status client error (403 Forbidden) for url (https://mirror.example/simple/pandas/)"""
OFFLINE = """error: No solution found when resolving dependencies
  cause: Because pandas was not found in the cache and you require pandas==2.3.3, we can conclude that ...
hint: Packages were unavailable because the network was disabled."""
ABSENT = """error: No solution found when resolving dependencies
  cause: Because pandas was not found in the package registry and you require pandas==2.3.3, we can conclude ..."""
NO_VERSION = """error: No solution found when resolving dependencies
  cause: Because there is no version of pandas==2.3.3 and you require pandas==2.3.3, we can conclude that ..."""
UNTRUSTED = """error: Failed to fetch: https://mirror.example/simple/pandas/
  cause: client error (Connect)
  cause: invalid peer certificate: UnknownIssuer"""
NO_SPACE = """error: Failed to install: numpy-2.3.5-cp311-cp311-manylinux_2_28_x86_64.whl (numpy==2.3.5)
  cause: failed to copy file from /a/b to /c/d: No space left on device (os error 28)"""
READ_ONLY = """error: Failed to install: numpy-2.3.5-cp311-cp311-manylinux_2_28_x86_64.whl (numpy==2.3.5)
  cause: failed to create file /a/b: Read-only file system (os error 30)"""
UNKNOWN = """error: Failed to read something
  cause: the moon is full"""


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (UNREACHABLE, "the package index cannot be reached: mirror.example, dns error."),
        (FORBIDDEN, "cannot be reached: mirror.example, HTTP status client error (403 Forbidden)."),
        (OFFLINE, "the package index cannot be reached: network was disabled."),
        (ABSENT, "the package index has no pandas for Python 3.11."),
        (NO_VERSION, "the package index has no pandas==2.3.3 for Python 3.11."),
        (UNTRUSTED, "the certificate of the package index (mirror.example) is not trusted."),
        (NO_SPACE, "the disk filled up during the installation; 99.9 GB are free now"),
        (READ_ONLY, ".venv cannot be written to."),
        (UNKNOWN, "the installation failed: the moon is full"),
    ],
)
def test_a_failure_of_uv_is_told_in_one_message(checkout: Checkout, output: str, message: str) -> None:
    said = checkout.fails(FAKE_UV_FAILS=output)
    assert message in said
    assert "secret" not in said
    log = checkout.root / "generated" / "logs" / "install.log"
    assert said.endswith(f"\n  Then call ./workshop again. Log: {log}\n")
    assert output.splitlines()[-1] in log.read_text()
    checkout.installs()
    assert checkout.is_current()


def test_a_failure_of_pip_is_told_in_one_message(checkout: Checkout) -> None:
    no_uv = "ERROR: Could not find a version that satisfies the requirement uv==0.13.8 (from versions: none)\n"
    no_uv += "ERROR: No matching distribution found for uv==0.13.8"
    assert "the package index has no uv==0.13.8 for Python 3.11." in checkout.fails(FAKE_PIP_FAILS=no_uv)
    broken = "WARNING: Retrying after connection broken by 'NewConnectionError(': Connection refused')': /simple/uv/\n"
    assert "cannot be reached: Connection refused." in checkout.fails(FAKE_PIP_FAILS=broken + no_uv)
    # Some programs do not say that the disk is full; the disk does.
    checkout.calls()
    checkout.tool("df", 'echo; if [[ -e "$CALLS" ]]; then echo / 0 0 5; else echo / 0 0 9000; fi')
    assert "the disk filled up during the installation; 0.0 GB" in checkout.fails(FAKE_PIP_FAILS="Error: ensurepip 1")


def test_a_package_that_does_not_build_costs_no_new_environment(checkout: Checkout) -> None:
    assert "the installation failed: no README" in checkout.fails(
        FAKE_BUILD_FAILS="error: Failed to build\n  cause: no README"
    )
    checkout.calls()
    checkout.installs()
    assert "venv" not in checkout.calls()


def test_torch_comes_from_where_pip_finds_it_or_else_from_uvs_cpu_builds(checkout: Checkout) -> None:
    checkout.installs()
    assert not any("--torch-backend" in call for call in checkout.calls())
    (checkout.root / "pyproject.toml").write_text("changed")
    checkout.installs(FAKE_TORCH_FAILS="error: No solution found when resolving dependencies")
    assert any(call.startswith("uv pip sync") and "--torch-backend cpu" in call for call in checkout.calls())
    # Not being able to ask is no answer.
    (checkout.root / "pyproject.toml").write_text("changed again")
    assert "cannot be reached: mirror.example, dns error" in checkout.fails(FAKE_TORCH_FAILS=UNREACHABLE)


def test_uv_is_given_what_pip_was_told(checkout: Checkout) -> None:
    configured = (
        r"global.cert='/etc/bundle.pem'\nglobal.extra-index-url='file:///a file:///b'\nglobal.find-links='\\n/w1\\n/w2'\n"
        r"global.index-url='https://mirror.example/simple'\nglobal.timeout='9'\nglobal.trusted-host='mirror.example'\n"
    )
    checkout.installs(FAKE_PIP_CONFIG=configured)
    settings = set(checkout.calls())
    assert {
        "UV_FIND_LINKS=/w1,/w2",
        "UV_DEFAULT_INDEX=https://mirror.example/simple",
        "UV_INDEX=file:///a file:///b",
        "UV_INDEX_STRATEGY=unsafe-best-match",
        "UV_INSECURE_HOST=mirror.example",
        "SSL_CERT_FILE=/etc/bundle.pem",
    } <= settings
    assert "https" not in (checkout.root / "generated" / "logs" / "install.log").read_text()


def test_what_uv_was_told_comes_before_what_pip_was_told(checkout: Checkout) -> None:
    configured = (
        r":env:.find-links='/by-variable'\nglobal.find-links='/by-file'\nglobal.index-url='https://pip.example'\n"
        r"global.cert='/pip.pem'\n"
    )
    own = {"UV_INDEX_URL": "https://uv.example", "SSL_CERT_FILE": "/uv.pem"}
    checkout.installs(FAKE_PIP_CONFIG=configured, **own)
    settings = set(checkout.calls())
    assert {"UV_FIND_LINKS=/by-variable", "UV_INDEX_URL=https://uv.example", "SSL_CERT_FILE=/uv.pem"} <= settings
    assert not any(setting.startswith("UV_DEFAULT_INDEX") for setting in settings)


# --- The active environment: conda, an OpenShift AI workbench -------------------------------------


@pytest.fixture
def active(checkout: Checkout) -> Checkout:
    """A checkout on a machine where an environment with its own Python and packages is active."""
    bin_folder = checkout.base / "conda env" / "bin"
    bin_folder.mkdir(parents=True)
    shutil.copy(checkout.tools / "python3.11", bin_folder / "python3")
    checkout.env |= {"WORKSHOP_ENV": "active", "PATH": f"{bin_folder}:{checkout.tools}"}
    return checkout


def test_the_active_environment_keeps_its_own_packages(active: Checkout) -> None:
    assert str(active.base / "conda env") in active.installs()
    calls = active.calls()
    assert "venv" not in calls
    assert not any("sync" in call for call in calls)
    python = active.base / "conda env" / "bin" / "python3"
    assert f"uv pip uninstall --python {python} torchvision torchaudio torchcodec" in calls
    locked = (
        f"uv pip install --no-deps --requirements requirements.lock --python {python} --no-build --compile-bytecode"
    )
    assert locked in calls
    assert active.is_current()
    assert not active.venv.exists()
    assert "environment comes first" in active.installs(FAKE_VERSION="3.11.9")


def test_an_interrupted_installation_into_the_active_environment_is_repeated_in_full(active: Checkout) -> None:
    os.killpg(sleeping(active).pid, signal.SIGKILL)
    active.calls()
    active.installs()
    assert any("--no-deps --reinstall --requirements" in call for call in active.calls())
    assert active.is_current()


def test_the_active_python_must_fit(active: Checkout) -> None:
    assert "belongs to the operating system" in active.fails(FAKE_OWNER="system")
    assert "is 3.9.18; the course needs 3.11 or 3.12" in active.fails(FAKE_VERSION="3.9.18")
    assert "no Python starts here" in active.fails(NO_START="1")
    assert active.calls() == []


# --- CI -------------------------------------------------------------------------------------------


def test_ci_runs_the_tests_from_anywhere(checkout: Checkout) -> None:
    (checkout.root / ".ci").mkdir()
    ci = shutil.copy(ROOT / ".ci" / "run", checkout.root / ".ci")
    checkout.program(
        checkout.script, '#!/bin/bash\necho "$* in $PWD, CI=$CI"; cat; [[ $* == test ]] && exit 3; exit 7\n'
    )
    code, out, _ = checkout.run(command=str(ci), cwd=checkout.tools)
    first, _, again = out.splitlines()
    assert first == f"test in {checkout.root}, CI=true"
    # What failed is asked once more, and that counts.
    assert again.startswith("test tests --last-failed ") and again.endswith(first.removeprefix("test")) and code == 7
    checkout.program(checkout.script, '#!/bin/bash\necho "$*"\n')
    assert checkout.run(command=str(ci), cwd=checkout.tools)[:2] == (0, "test\n")
