"""Compiles what updog has in C while its wheel is built, and does without where it cannot.

The only such module hashes blocks by instructions of x86-64. Without it, updog does the same by
Python's hashlib, in twice the time: a machine of another kind, or one that has no compiler, gets a
wheel of Python alone.
"""

import platform
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "updog/_block_hash.c"
MODULE = "updog/_block_hash.abi3.so"
FLAGS = ("-std=c11", "-O3", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden", "-s")


class CompilingHook(BuildHookInterface):  # type: ignore[misc] -- hatchling exports it untyped
    """Adds the compiled module to the wheel; for an editable one it is left beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, before any file is collected."""
        del version
        if platform.machine() != "x86_64":
            return
        module = Path(self.root, MODULE)
        try:
            _compile(Path(self.root, SOURCE), module)
        except (OSError, subprocess.CalledProcessError) as err:
            module.unlink(missing_ok=True)
            self.app.display_warning(f"{SOURCE} is left out, updog will be slower: {err}")
            return
        build_data["artifacts"].append(f"/{MODULE}")
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().translate(_TO_TAG)}"


_TO_TAG = str.maketrans("-.", "__")


def _compile(source: Path, module: Path) -> None:
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    include = sysconfig.get_paths()["include"]
    # Under a name of its own first: a process may have the old one mapped.
    fresh = module.with_suffix(".new")
    command = [*compiler, *FLAGS, f"-I{include}", str(source), "-o", str(fresh)]
    subprocess.run(command, check=True)
    fresh.replace(module)
