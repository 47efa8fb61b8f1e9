#!/usr/bin/env python3
"""Set up a development environment and run something in it: python3 dev.py demo|test|lint|wheels|docs|run|setup.

Needs Python 3.11 or newer and nothing else. The first call makes `.venv`, gets uv if there is none and installs
the five packages editable; later calls install nothing unless a pyproject.toml or constraints.txt changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("SIDESTEP_VENV", ROOT / ".venv"))
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
EXE = ".exe" if os.name == "nt" else ""
PYTHON = BIN / f"python{EXE}"
STAMP = VENV / "sidestep.stamp"
PACKAGES = ["sidestep-core", "sidestep-adapters", "sidestep-captioners", "sidestep-exporters", "sidestep-cli[all]"]


def fingerprint(torch: str) -> str:
    """Return a hash of everything that decides what is installed."""
    digest = hashlib.sha256(f"{sys.version} {torch}".encode())
    inputs = [ROOT / "constraints.txt", Path(__file__), ROOT / "pyproject.toml"]
    for path in inputs + sorted(ROOT.glob("sidestep-*/pyproject.toml")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def clean_environment() -> dict[str, str]:
    """Return the environment for children: bytecode is cached (imports are twice as fast) and pip's wheels are found.

    uv does not read pip's configuration, so a folder of wheels that pip is set up to look at is handed on.
    """
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")}
    if "UV_FIND_LINKS" not in env:
        asked = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
        links = env.get("PIP_FIND_LINKS") or subprocess.run(asked, capture_output=True, text=True).stdout
        if links.strip():
            env["UV_FIND_LINKS"] = ",".join(links.split())
    return env


def find_uv(env: dict[str, str]) -> str:
    """Return a uv, putting one into the environment when the machine has none."""
    if uv := shutil.which("uv"):
        return uv
    own = BIN / f"uv{EXE}"
    if not own.exists():
        subprocess.run([PYTHON, "-m", "pip", "install", "-q", "uv"], check=True, env=env)
    return str(own)


def setup(torch: str) -> None:
    """Make the environment if it is missing or out of date."""
    wanted = fingerprint(torch)
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted:
        return
    env = clean_environment()
    if not PYTHON.exists():
        print(f"making {VENV} (first run only)", file=sys.stderr)
        venv.create(VENV, with_pip=shutil.which("uv") is None)
    command = [find_uv(env), "pip", "install", "--python", str(PYTHON), "-c", "constraints.txt", "--group", "dev"]
    if torch != "default":
        command += ["--torch-backend", torch]
    for package in PACKAGES:
        command += ["-e", f"./{package}"]
    subprocess.run(command, check=True, env=env, cwd=ROOT)
    STAMP.write_text(wanted, encoding="utf-8")


def run(*command: str | Path) -> int:
    """Run a command of the environment and return its exit code."""
    env = clean_environment()
    env["PATH"] = f"{BIN}{os.pathsep}{env.get('PATH', '')}"
    return subprocess.run([str(part) for part in command], env=env).returncode


def test(*rest: str) -> int:
    """Run the tests, a process for each core and one thread in each: threads that share a core wait for each other."""
    os.chdir(ROOT)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return run(PYTHON, "-m", "pytest", "-n", "auto", "--maxprocesses", "8", "--dist", "loadfile", *rest)


def lint() -> int:
    """Check style, format, types, sizes and reference pages; stop at the first that fails."""
    os.chdir(ROOT)
    ruff, mypy = BIN / f"ruff{EXE}", BIN / f"mypy{EXE}"
    checks = [
        (ruff, "check", "."),
        (ruff, "format", "--check", "."),
        (mypy,),
        (PYTHON, ".ci/size.py"),
        (PYTHON, ".ci/reference.py", "--check"),
    ]
    return next((code for check in checks if (code := run(*check))), 0)


def wheels() -> int:
    """Build the five wheels, install them together in a clean environment and list their plugins."""
    env = clean_environment()
    uv = find_uv(env)
    with tempfile.TemporaryDirectory() as folder:
        built, clean = Path(folder, "dist"), Path(folder, "venv")
        subprocess.run(
            [uv, "build", "-q", "--wheel", "--all-packages", "-o", str(built)], check=True, env=env, cwd=ROOT
        )
        found = sorted(built.glob("*.whl"))
        print("\n".join(f"built {wheel.name}" for wheel in found))
        if len(found) != len(PACKAGES):
            print(f"expected {len(PACKAGES)} wheels", file=sys.stderr)
            return 1
        subprocess.run([uv, "venv", "-q", "--python", str(PYTHON), str(clean)], check=True, env=env)
        python = clean / PYTHON.relative_to(VENV)
        install = [uv, "pip", "install", "-q", "--python", str(python), "-c", "constraints.txt", *map(str, found)]
        subprocess.run(install, check=True, env=env, cwd=ROOT)
        listed = subprocess.run(
            [python.with_name(f"sidestep{EXE}"), "plugins", "list", "--json"],
            check=True, env=env, cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        records = json.loads(listed.stdout)
        for record in records:
            print(f"{record['status']:<8}{record['name']:<12}{record['distribution']} {record['version']}")
        names = {record["distribution"] for record in records if record["status"] == "ok"}
        return 0 if {wheel.name.split("-")[0].replace("_", "-") for wheel in found} == names else 1


def docs(*rest: str) -> int:
    """Write the reference pages and build the documentation into site/, or show it with `docs serve`."""
    os.chdir(ROOT)
    install = [find_uv(clean_environment()), "pip", "install", "-q", "--python", str(PYTHON), "-c", "constraints.txt"]
    subprocess.run([*install, "--group", "docs"], check=True, env=clean_environment())
    return run(PYTHON, ".ci/reference.py") or run(BIN / f"mkdocs{EXE}", *(rest or ("build",)), "-f", ".mkdocs.yml")


def main() -> int:
    """Set up, then do what was asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--torch", default="default", help="torch build to install: auto, cpu, cu130, rocm7.1, xpu ...")
    parser.add_argument("what", choices=["setup", "demo", "test", "lint", "wheels", "docs", "run"])
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="arguments handed on")
    args = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what an older Python is told by
        parser.error(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    setup(args.torch)
    if args.what == "test":
        return test(*args.rest)
    if args.what == "demo":
        return run(BIN / f"sidestep{EXE}", "demo", *args.rest)
    if args.what == "lint":
        return lint()
    if args.what == "wheels":
        return wheels()
    if args.what == "docs":
        return docs(*args.rest)
    if args.what == "run":
        return run(BIN / f"sidestep{EXE}", *args.rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
