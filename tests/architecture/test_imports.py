"""The shape of the house, as far as import-linter cannot see it: imports do no work, packages state what they are for,
and nothing grows beyond what one can read.

There is no list of exceptions here. What is too long is split.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("control_plane", "edge_router", "ops", "prober", "shared")
MAX_MODULE_LINES = 450
MAX_FUNCTION_LINES = 70

_PROBE = """
import importlib, json, os, sys, threading

FORBIDDEN = {  # audit events (docs.python.org/3/library/audit_events.html); an event loop begins with a socket pair
    "socket.__new__", "socket.bind", "socket.connect", "socket.getaddrinfo", "_thread.start_new_thread",
    "os.putenv", "os.unsetenv", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system", "os.mkdir",
    "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.chmod", "subprocess.Popen", "tempfile.mkstemp",
    "tempfile.mkdtemp", "signal.pthread_kill", "shutil.rmtree", "shutil.copyfile", "shutil.move",
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
seen = []

def watch(event, arguments):
    if event in FORBIDDEN or (event == "open" and arguments[2] & WRITING):
        seen.append(f"{event} {arguments[:2]!r}")

environment, found = dict(os.environ), {}
sys.addaudithook(watch)
for name in json.loads(sys.argv[1]):
    seen.clear()
    importlib.import_module(name)
    if dict(os.environ) != environment:
        seen.append("os.environ changed")
        environment = dict(os.environ)
    if threading.active_count() > 1:
        seen.append(f"threads: {threading.enumerate()!r}")
    if seen:
        found[name] = list(seen)
print(json.dumps(found))
"""


def sources() -> Iterator[Path]:
    """Every module of the project's packages."""
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_importing_any_module_does_no_work():
    """No socket, thread, process, event loop, file written or environment changed, by us or by what we import."""
    names = [module_name(path) for path in sources() if path.name != "__main__.py"]
    assert len(names) > 50
    child = subprocess.run(
        [sys.executable, "-B", "-c", _PROBE, json.dumps(names)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout) == {}


def test_importing_says_nothing():
    """Nor does an import print or warn."""
    names = [module_name(path) for path in sources() if path.name != "__main__.py"]
    code = f"import importlib, json\nfor name in {names!r}: importlib.import_module(name)"
    child = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")


@pytest.mark.parametrize("path", list(sources()), ids=relative)
def test_a_module_says_what_it_is_for_and_can_be_read_in_one_sitting(path):
    """A docstring, at most 450 lines, functions of at most 70."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "has no docstring"
    lines = text.count("\n")
    assert lines <= MAX_MODULE_LINES, f"{lines} lines: split it by the questions it answers"
    long = {
        node.name: length
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert not long, f"longer than {MAX_FUNCTION_LINES} lines: {long}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_of_the_house_has_a_charter(package):
    """The five packages state in their docstring what lives there and what does not."""
    charter = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8")))
    assert charter is not None
    assert "lives here" in charter.lower()
    assert "not live here" in " ".join(charter.lower().split())


def test_every_directory_with_modules_is_a_package():
    """A forgotten `__init__.py` would leave a room out of the wheel and out of the checks."""
    missing = {relative(path.parent) for path in sources() if not (path.parent / "__init__.py").exists()}
    assert missing == set()
