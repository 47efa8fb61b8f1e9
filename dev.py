#!/usr/bin/env python3
"""Set up a development environment and run something in it: python3 dev.py demo|test|lint|docs|run|setup.

Needs Python 3.11 or newer and nothing else. The first call makes `.venv`, gets uv if there is none and installs
the five packages editable; later calls install nothing unless a pyproject.toml or constraints.txt changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
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


def setup(torch: str) -> None:
    """Make the environment if it is missing or out of date."""
    wanted = fingerprint(torch)
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == wanted:
        return
    env = clean_environment()
    uv = shutil.which("uv")
    if not PYTHON.exists():
        print(f"making {VENV} (first run only)", file=sys.stderr)
        if uv:
            subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(VENV)], check=True)
        else:
            venv.create(VENV, with_pip=True)
    if not uv:
        uv = str(BIN / f"uv{EXE}")
        if not Path(uv).exists():
            subprocess.run([PYTHON, "-m", "pip", "install", "-q", "uv"], check=True, env=env)
    command = [uv, "pip", "install", "--python", str(PYTHON), "-c", "constraints.txt", "--group", "dev"]
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


def lint() -> int:
    """Check style, format and types; stop at the first that fails."""
    os.chdir(ROOT)
    checks = [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)]
    return next((code for tool, *args in checks if (code := run(BIN / f"{tool}{EXE}", *args))), 0)


def main() -> int:
    """Set up, then do what was asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--torch", default="default", help="torch build to install: auto, cpu, cu130, rocm7.1, xpu ...")
    parser.add_argument("what", choices=["setup", "demo", "test", "lint", "docs", "run"])
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="arguments handed on")
    args = parser.parse_args()
    if sys.version_info < (3, 11):
        parser.error(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    setup(args.torch)
    if args.what == "test":
        os.chdir(ROOT)
        return run(PYTHON, "-m", "pytest", *args.rest)
    if args.what == "demo":
        return run(BIN / f"sidestep{EXE}", "demo", *args.rest)
    if args.what == "lint":
        return lint()
    if args.what == "run":
        return run(BIN / f"sidestep{EXE}", *args.rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
