"""The shared libraries that programs of another system need, found without running them.

Decides by what the ELF files name (System V ABI, dynamic section); refuses a program whose library
is not in that system.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from repo_tools.errors import RepoToolsError
from repo_tools.programs import find_program, run_program
from repo_tools.stage1.cpio import File

_NEEDED: Final = re.compile(r"\(NEEDED\).*\[(?P<name>[^\]]+)\]")
_LOADER: Final = re.compile(r"program interpreter: /(?P<path>[^\]]+)\]")


def collect_libraries(system: Path, programs: Iterable[Path]) -> dict[str, File]:
    """Return the dynamic loader and every library that programs lead to.

    Args:
        system: the root directory that they are looked for in.
        programs: ELF files.

    Raises:
        RepoToolsError: a library is missing, or a file is no ELF file.
    """
    files: dict[str, File] = {}
    waiting = list(programs)
    while waiting:
        for target, name in _wanted(waiting.pop()):
            if not any(known.endswith(f"/{name}") for known in files):
                path = _find(system, name)
                files[target or str(path.relative_to(system))] = File(
                    data=path.read_bytes(), is_executable=True
                )
                waiting.append(path)
    return files


def _wanted(program: Path) -> Iterator[tuple[str | None, str]]:
    """Yield a fixed place, where there is one, and the name of what a program needs."""
    done = run_program(find_program("readelf"), "--wide", "--dynamic", "--program-headers", program)
    if done.returncode != 0:
        raise RepoToolsError(f"readelf failed on {program}: {done.stderr.strip()}")
    loader = _LOADER.search(done.stdout)
    if loader:
        yield loader["path"], Path(loader["path"]).name
    for needed in _NEEDED.finditer(done.stdout):
        yield None, needed["name"]


def _find(system: Path, name: str) -> Path:
    for directory in ("lib", "usr/lib", "lib64", "usr/lib64"):
        for candidate in (
            system / directory / name,
            *(system / directory).glob(f"*-linux-*/{name}"),
        ):
            if candidate.is_file():
                return candidate
    raise RepoToolsError(f"{system} has no {name}, which the programs of stage-1 need")
