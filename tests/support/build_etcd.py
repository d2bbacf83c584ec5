"""`make etcd`: a newer etcd than the wheel's, built with Go into the repository's `.cache`; never required.

Tests that take it say so in their ids; where it is not there they say how to make it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.etcd import BUILT, VERSION
from tests.support.processes import temporary_directory

PROGRAMS = {"etcd": "server", "etcdctl": "etcdctl", "etcdutl": "etcdutl"}
BUILD_S = 1200


def go() -> str | None:
    """Go's command, on PATH or where its installer puts it."""
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


def build() -> None:
    """Build all programs, then put them in place at once. Raises subprocess.CalledProcessError."""
    command = go()
    if command is None:
        raise SystemExit("no Go at hand: the tests run on the etcd of the wheel alone")
    with temporary_directory("etcd-build") as directory:
        env = {**os.environ, "GOWORK": "off", "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}

        def run(*words: str) -> None:
            subprocess.run([command, *words], cwd=directory, env=env, check=True, timeout=BUILD_S)

        modules = {name: f"go.etcd.io/etcd/{folder}/v3" for name, folder in PROGRAMS.items()}
        run("mod", "init", "leeward/etcd")
        run("get", *(f"{module}@v{VERSION}" for module in modules.values()))
        out = directory / "out"
        for name, module in modules.items():
            run("build", "-trimpath", "-o", str(out / name), module)
        BUILT.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(out, BUILT)  # whole or not at all


if __name__ == "__main__":
    if (Path(BUILT) / "etcd").is_file():
        print(f"etcd {VERSION} is in {BUILT}")
        sys.exit(0)
    build()
    print(f"etcd {VERSION} built into {BUILT}")
