"""Compiles what updog has in C while its wheel is built, and does without where it cannot.

The only such module hashes blocks by instructions of x86-64. Without it, updog does the same by
Python's hashlib, in twice the time: a machine of another kind, or one that has no compiler, gets a
wheel of Python alone.
"""

import os
import platform
import shlex
import subprocess
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "updog/_block_hash.c"
MODULE = "updog/_block_hash.abi3.so"
FLAGS = ("-std=c11", "-O3", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden", "-s")


class CompilingHook(BuildHookInterface):  # type: ignore[misc] -- hatchling exports it untyped
    """Adds the compiled module to a wheel; for an editable one it is left beside its source.

    Else nothing is written beside the source, which may be somebody else's or in use.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, before any file is collected."""
        if self.target_name != "wheel" or platform.machine() != "x86_64":
            return
        self._directory = TemporaryDirectory()
        beside_source = Path(self.root, MODULE)
        module = beside_source
        if version != "editable":
            module = Path(self._directory.name, beside_source.name)
        try:
            _compile(Path(self.root, SOURCE), module)
        except (OSError, subprocess.CalledProcessError) as err:
            if module.exists():  # one of an earlier source
                module.unlink()
            self.app.display_warning(f"{SOURCE} is left out, updog will be slower: {err}")
            return
        if module != beside_source:
            build_data["force_include"][str(module)] = MODULE
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().translate(_TO_TAG)}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled, once it is in the wheel."""
        del version, build_data, artifact_path
        if hasattr(self, "_directory"):
            self._directory.cleanup()


_TO_TAG = str.maketrans("-.", "__")


def _compile(source: Path, module: Path) -> None:
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    include = sysconfig.get_paths()["include"]
    # Under a name of its own first, which git ignores too: a process may have the old one mapped.
    fresh = module.with_suffix(".new.so")
    command = [*compiler, *FLAGS, f"-I{include}", str(source), "-o", str(fresh)]
    subprocess.run(command, check=True)
    fresh.replace(module)
