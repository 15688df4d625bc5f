"""Build the sdist, the wheel from it, install the wheel apart from this checkout, use it in an empty folder.

    python -m tools.wheel_smoke

Run it with the development environment (`build`, `hatchling`). The wheel gets an environment with nothing but
requirements/base.txt, so a runtime dependency that only the development set has is found here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tools import serve_smoke

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("templates", "static")
SDIST_NEEDS = (
    "pyproject.toml",
    "Makefile",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "requirements/dev.txt",
    "tests/conftest.py",
)


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that ends with 0; its error output is ours."""
    words = [str(part) for part in command]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        words, cwd=cwd, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def build(folder: Path) -> tuple[Path, Path]:
    """(sdist, wheel); the wheel is built from the unpacked sdist, so the sdist has all that a build needs."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, cwd=ROOT)
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


def data_files() -> set[str]:
    """Every template and static file of the checkout, as paths within the package."""
    files = (path for room in SHIPPED for path in (ROOT / room).rglob("*") if path.is_file())
    return {f"lockboard/{path.relative_to(ROOT).as_posix()}" for path in files}


def check_contents(sdist: Path, wheel: Path) -> None:
    """AssertionError with the names that an archive lacks, or that have no business in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        carried = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    strays = {name for name in carried if not name.startswith(("lockboard/", "lockboard-"))}
    problems = {
        "missing from the wheel": data_files() - carried,
        "missing from the sdist": set(SDIST_NEEDS) - packed,
        "strays in the wheel": strays,
    }
    if found := {what: sorted(names) for what, names in problems.items() if names}:
        raise AssertionError(found)


def install(wheel: Path, folder: Path) -> Path:
    """The `bin` folder of a new virtual environment with the wheel and its pinned dependencies only."""
    run(sys.executable, "-m", "venv", folder, cwd=ROOT)
    pip = (folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--require-hashes", "-r", ROOT / "requirements" / "base.txt", cwd=ROOT)
    run(*pip, "install", "--quiet", "--no-deps", wheel, cwd=ROOT)
    run(*pip, "check", cwd=ROOT)
    return folder / "bin"


def use(installed: Path, empty: Path) -> None:
    """Ask the installed program for version and help, look for its pages, and serve, in an empty folder."""
    print(run(installed / "lockboard", "--version", cwd=empty))
    for command in ([], ["check"], ["collect"], ["scan"], ["serve"]):
        run(installed / "lockboard", *command, "--help", cwd=empty)
    ask = "import lockboard.web.app as app; print(app.ROOT)"
    root = Path(run(installed / "python", "-I", "-c", ask, cwd=empty))
    if not root.is_relative_to(installed.parent) or not (root / "templates" / "base.html").is_file():
        raise AssertionError(f"pages are read from {root}, which is not the installed package")
    serve_smoke.serve(str(installed / "lockboard"), empty)


def main() -> None:
    """Run the whole check; the first thing that is not as promised ends it with a traceback."""
    with tempfile.TemporaryDirectory(prefix="lockboard-wheel-") as name:
        scratch = Path(name)
        (scratch / "empty").mkdir()
        sdist, wheel = build(scratch / "dist")
        check_contents(sdist, wheel)
        use(install(wheel, scratch / "venv"), scratch / "empty")
    print(f"{wheel.name}: installs apart from the checkout, serves, and ends cleanly")


if __name__ == "__main__":
    main()
