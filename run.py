"""Start IterIS Studio, or test it, on a machine that has Python and nothing else.

    python3 run.py [arguments of the app]        the page, on http://127.0.0.1:7860
    python3 run.py test [arguments of pytest]    lint, types and tests, in a real browser too
    python3 run.py test --quick [the same]       without slow tests or a browser
    python3 run.py space --sdk … OWNER/NAME      a Hugging Face Space; --help tells the rest
    python3 run.py lock [arguments of uv]        the lock files anew; --upgrade takes new releases
    python3 run.py --help                        this, and if it is installed the app's arguments

The first four make the environment .venv beside this file and install the pinned requirements into
it, and do so again only when a requirements file or its lock file has changed. This file needs the
standard library alone.
"""

import difflib
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 (this file is the one that an old Python meets)
    found = ".".join(map(str, sys.version_info[:3]))
    sys.exit(f"IterIS Studio needs Python 3.10 or newer; {sys.executable} is Python {found}.")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
MADE = VENV / "made-by-run.py"  # written last, so that a half-made environment is made again
REQUIREMENTS = ("requirements.txt", "tests/requirements.txt")  # each has a .lock beside it
EXTRAS = ("requirements-ray.txt", "requirements-zerogpu.txt")  # so have these, for other executors
LOCKED = ((3, 10), (3, 11), (3, 12), (3, 13))  # Pythons that the lock files are for
COMMANDS = ("test", "space", "lock")  # beside the app itself
WORKERS = 4  # processes that run tests, at most: each holds a base model in memory
UV = "uv==0.13.9"  # what makes them
# Which of torch's files fits depends on the machine and its package index: CUDA or CPU, and with
# CUDA come more libraries. So neither has a hash in the lock files; requirements.txt pins torch.
WITHOUT_HASH = re.compile(r"(torch|triton|nvidia-[\w-]+|cuda-[\w-]+)==")
LOCK_HEADER = "# Made by `python3 run.py lock`; torch and what only it needs are left out.\n"
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    r"%ProgramFiles%\Google\Chrome\Application\chrome.exe",
    r"%ProgramFiles(x86)%\Microsoft\Edge\Application\msedge.exe",
)


def say(text: str) -> None:
    """One line about what happens now."""
    print(f"run.py: {text}", flush=True)


def call(*command: str | Path) -> int:
    """Show a command, run it to its end and return its exit status."""
    say("$ " + shlex.join(map(str, command)))
    with subprocess.Popen(command) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        while True:
            try:
                status = process.wait()
            except KeyboardInterrupt:
                continue  # the terminal gave Ctrl-C to the child as well: let it clean up
            return status if status >= 0 else 128 - status  # ended by a signal: as shells say it


def make_environment() -> None:
    """Make .venv, unless it is there and whole."""
    if MADE.exists() and PYTHON.exists():
        return
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        sys.exit(
            f"{sys.executable} lacks Python's venv module; install it "
            "(Debian and Ubuntu: apt-get install python3-venv) and run this again."
        )
    say(f"making the environment {VENV} with Python {sys.version.split()[0]}")
    if call(sys.executable, "-m", "venv", "--clear", VENV):
        sys.exit(f"The environment {VENV} could not be made; the reason is above.")
    MADE.touch()


def lock_of(name: str) -> Path:
    """The lock file of a requirements file."""
    return (ROOT / name).with_suffix(".lock")


def install(name: str) -> None:
    """Install a requirements file as locked, unless .venv bears the present hash of both files."""
    stamp = VENV / f"installed-{Path(name).parent.name or 'app'}"
    contents = (ROOT / name).read_bytes() + lock_of(name).read_bytes()
    digest = hashlib.sha256(contents).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        say(f"{name} is unchanged: nothing to install")
        return
    say(f"installing {name}; the first time this takes some minutes")
    if sys.version_info[:2] in LOCKED:
        install_locked(lock_of(name))
    else:
        version = ".".join(map(str, sys.version_info[:2]))
        say(f"the lock files are not for Python {version}: installing without hashes")
    if pip_install("-r", name):  # what the lock file leaves out
        sys.exit(f"{name} could not be installed; pip says why above.")
    stamp.write_text(digest)


def install_locked(lock: Path) -> None:
    """Install exactly the files that a lock file has hashes of: by uv if it is there, else pip."""
    options = ("--require-hashes", "--no-deps", "-r", str(lock.relative_to(ROOT)))
    uv = shutil.which("uv")
    if uv and not call(uv, "pip", "install", "--python", PYTHON, *options):
        return
    if uv:
        say("uv could not install it; now pip tries")
    if pip_install(*options):
        sys.exit(f"{lock.name} could not be installed; pip says why above.")


def pip_install(*arguments: str) -> int:
    """Let the environment's pip install something; returns its exit status."""
    return call(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", *arguments)


def lock(arguments: list[str]) -> int:
    """Make the lock files anew; releases that still fit stay, unless arguments say --upgrade."""
    if pip_install(UV):
        return 1
    known: set[str] = set()
    app = REQUIREMENTS[0]
    for names in ((app,), *((app, extra) for extra in (*REQUIREMENTS[1:], *EXTRAS))):
        if status := compile_lock(names, arguments):
            return status
        lock = lock_of(names[-1])
        found = [entry for entry in entries(lock) if entry not in known]
        lock.write_text(LOCK_HEADER + "\n".join(found) + "\n", encoding="utf-8")
        known = known or set(found)  # of the app: the others are installed beside it
    return 0


def compile_lock(names: Sequence[str], arguments: list[str]) -> int:
    """Let uv write the lock file of the last of some requirements files, to go with the others."""
    options = ["--universal", "--python-version", ".".join(map(str, LOCKED[0])), "--no-header"]
    options += ["--no-annotate", "--generate-hashes", "--output-file", str(lock_of(names[-1]))]
    for name in names[:-1]:
        options += ["--constraint", str(lock_of(name))]
    return call(PYTHON, "-m", "uv", "pip", "compile", "--quiet", *options, *names, *arguments)


def entries(lock: Path) -> list[str]:
    """The releases in a lock file, all their hashes below them, but those without a hash here."""
    found = re.findall(r"^[^#\s].*(?:\n +.*)*", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return [entry for entry in found if not WITHOUT_HASH.match(entry)]


def find_browser() -> str | None:
    """Path of the first chromium-like browser on this machine."""
    paths = (shutil.which(os.path.expandvars(name)) for name in BROWSERS)
    return next(filter(None, paths), None)


def install_browser() -> str | None:
    """Install chromium where we may: as root, on Debian or Ubuntu."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return None
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    call("apt-get", "update", "-qq")
    call("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium")
    return find_browser()


def browser() -> str:
    """Path of the browser for the tests: CHROMIUM if set, else found, else installed."""
    named = os.environ.get("CHROMIUM")
    if named and not shutil.which(named):
        sys.exit(f"CHROMIUM is set to {named}, which is no program; correct it or unset it.")
    path = named or find_browser() or install_browser()
    if not path:
        sys.exit(
            "The tests need a browser: install Chromium or Google Chrome (Debian: sudo apt-get "
            "install chromium), or set CHROMIUM to the program's path, and run this again."
        )
    return path


def workers(arguments: list[str]) -> list[str]:
    """Options that share all tests among processes; none for chosen files, or if -n is given.

    Every process takes whole files, so that what a file's tests share is made once, in the order in
    which tests/conftest.py puts them, long ones first. They share the cores as well: with more
    threads than cores, the same work takes about 1.4 times the processor time.
    """
    chosen = any((ROOT / argument.split("::")[0]).exists() for argument in arguments)
    count = min(os.cpu_count() or 1, WORKERS)
    if chosen or count == 1 or any(argument.startswith("-n") for argument in arguments):
        return []
    os.environ.setdefault("OMP_NUM_THREADS", str((os.cpu_count() or 1) // count))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return ["-n", str(count), "--dist", "loadfile", "--no-loadscope-reorder"]


def test(arguments: list[str]) -> int:
    """Lint, types, tests: the exit status of the first that fails, or 0."""
    install("tests/requirements.txt")
    if "--quick" in arguments:
        others = [argument for argument in arguments if argument != "--quick"]
        arguments = ["-m", "not slow and not browser", *others]
    else:
        os.environ["CHROMIUM"] = browser()
    arguments = [*workers(arguments), *arguments]
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
    for check in (*checks, ["pytest", *arguments]):
        status = call(PYTHON, "-m", *check)
        if status:
            say(f"{check[0]} failed (exit status {status})")
            return status
    return 0


def start(arguments: list[str]) -> int:
    """Start the page; where the system can, it takes the place of this process."""
    command = [str(PYTHON), "-m", "app", *arguments]
    if os.name != "nt":
        say("$ " + shlex.join(command))
        os.execv(PYTHON, command)
    return call(*command)


def show_help() -> int:
    """Print what there is, and the arguments of the app where there is an environment."""
    print(__doc__)
    return start(["--help"]) if MADE.exists() else 0


def check_command(arguments: list[str]) -> None:
    """End with one line if the first word is no command, before anything is installed."""
    word = arguments[0] if arguments else "-"
    if word in COMMANDS or word.startswith("-"):
        return
    near = difflib.get_close_matches(word, COMMANDS, 1)
    guess = f"; did you mean {near[0]}?" if near else "."
    sys.exit(
        f"run.py: there is no command {word}{guess} (python3 run.py --help shows what there is)"
    )


def main(arguments: list[str]) -> int:
    """What the command line asks for."""
    check_command(arguments)
    os.chdir(ROOT)
    if arguments[:1] in (["-h"], ["--help"]):
        return show_help()
    make_environment()
    if arguments[:1] == ["lock"]:
        return lock(arguments[1:])
    install("requirements.txt")
    if arguments[:1] == ["test"]:
        return test(arguments[1:])
    if arguments[:1] == ["space"]:
        return call(PYTHON, "-m", "app.space", *arguments[1:])
    return start(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
