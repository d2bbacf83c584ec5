"""The page that is shipped is the page of the sources."""

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "control_plane" / "ui"
BUILT = ROOT / "control_plane" / "api" / "page"
FILES = ("index.html", "app.js", "app.css")


def test_the_built_files_are_of_these_sources() -> None:
    """By the hash of the sources that the build wrote beside them (`scripts/build.mjs`)."""
    names = [f"src/{path.name}" for path in sorted((SOURCES / "src").iterdir(), key=lambda path: path.name)]
    told = sha256()
    for name in (*names, "package.json", "package-lock.json", "scripts/build.mjs"):
        told.update(f"{name}\n".encode())
        told.update((SOURCES / name).read_bytes())
    assert (BUILT / "sources.sha256").read_text().strip() == told.hexdigest(), "make ui"
    assert sum((BUILT / name).stat().st_size for name in FILES) < 500_000


def test_a_build_gives_the_same_bytes(tmp_path: Path) -> None:
    """Where npm and what it installs are at hand."""
    if shutil.which("npm") is None or not (SOURCES / "node_modules").is_dir():
        pytest.skip("no npm or no control_plane/ui/node_modules, so the page is not built anew: make ui")
    done = subprocess.run(
        ["npm", "run", "--silent", "build", "--", str(tmp_path)],
        cwd=SOURCES,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in (*FILES, "sources.sha256"):
        assert (tmp_path / name).read_bytes() == (BUILT / name).read_bytes(), f"{name} differs: make ui"


def test_nothing_is_loaded_from_elsewhere() -> None:
    """No address of another host in the built files but names of namespaces, which are never asked."""
    for name in FILES:
        text = (BUILT / name).read_text(encoding="utf-8")
        for scheme in ("https://", "http://"):
            hosts = {part.split("/")[0].split('"')[0] for part in text.split(scheme)[1:]}
            assert hosts <= {"www.w3.org"}, (name, hosts)
