"""The wheel: what is in it, and that it merges where there is no checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from merging.io.assets import ASSETS, INSTALLED, assets_folder
from merging.version import __version__

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = ("build", "readme", "README.md")  # of assets/: how they were made, pictures of the page
TIMEOUT = 300  # seconds: two busy cores

pytestmark = pytest.mark.slow(12)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a wheel, built by the test environment's own backend."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(folder))
    run(sys.executable, "-m", "pip", "wheel", *options, str(ROOT), cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of a fresh environment in which the wheel is installed.

    It sees the test environment's packages, so that nothing is downloaded.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    paths = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    found = Path(sysconfig.get_path("scripts", "venv", paths))
    python = found / Path(sys.executable).name
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install")
    run(*pip, "--no-deps", "--no-index", str(wheel), cwd=folder)
    return found


def run(*command: str, cwd: Path, status: int = 0) -> str:
    """What a program prints; it must end with this status."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=TIMEOUT, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_wheel_has_every_file_of_the_packages_and_the_models(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in ("app", "merging")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    models = {
        f"merging/{INSTALLED}/{path.relative_to(ASSETS).as_posix()}"
        for path in ASSETS.rglob("*")
        if path.is_file() and path.relative_to(ASSETS).parts[0] not in LEFT_OUT
    }
    others = {name for name in names if ".dist-info/" not in name}
    assert others == ours | models
    assert __version__ in wheel.name


def test_assets_are_those_of_the_package_where_it_has_some(tmp_path: Path) -> None:
    package = tmp_path / "merging"
    package.mkdir()
    assert assets_folder(package) == tmp_path / "assets"
    (package / INSTALLED).mkdir()
    assert assets_folder(package) == package / INSTALLED


def test_the_installed_command_merges_the_bundled_pair(programs: Path, tmp_path: Path) -> None:
    python = next(programs.glob("python*"))
    code = "from merging.io.assets import ASSETS; print(ASSETS)"
    assets = run(str(python), "-c", code, cwd=tmp_path).strip()
    assert Path(assets).is_relative_to(programs.parent)
    pair = [f"{assets}/loras/{name}.safetensors" for name in ("sks-cat", "vxz-pizza")]
    options = ("--method", "sum", "--device", "cpu")
    merge = (str(programs / "iteris"), "merge", *pair, "--out", "merged.safetensors", *options)
    run(*merge, cwd=tmp_path)
    assert (tmp_path / "merged.safetensors").stat().st_size > 10_000
    assert "error:" in run(merge[0], "inspect", "missing", cwd=tmp_path, status=2)


def test_the_installed_page_says_what_is_wrong(programs: Path, tmp_path: Path) -> None:
    studio = str(programs / "iteris-studio")
    assert "iteris-studio:" in run(studio, "--port", "http", cwd=tmp_path, status=2)
    assert "usage: iteris-studio" in run(studio, "--help", cwd=tmp_path)
