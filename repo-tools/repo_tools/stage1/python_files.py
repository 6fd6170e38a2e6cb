"""The Python that stage-1 runs on: an interpreter, and no more of its library than is imported.

Decides by following the imports of signpost's stage-1 through the library of the system that is
given, which may be another one than this host's. Modules are compiled here where both are of one
version, since compiling would be most of what a small machine does at each start.
"""

import py_compile
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Final

import signpost
from repo_tools.errors import RepoToolsError
from repo_tools.stage1.cpio import File

_PROGRAM: Final = re.compile(r"python3\.(\d+)")
_ENTRY: Final = "signpost.stage1.init"
_ALWAYS: Final = ("encodings.ascii", "encodings.latin_1", "encodings.utf_8", "encodings.aliases")
"""What an interpreter loads before the first line of a program."""

_NEVER: Final = (
    *("_bootsubprocess", "_hashlib", "_lzma", "_bz2", "_pydecimal", "_strptime", "argparse"),
    *("asyncio", "bdb", "bz2", "calendar", "concurrent", "contextvars", "csv", "ctypes.macholib"),
    *("ctypes.wintypes", "datetime", "decimal", "doctest", "email", "encodings.mbcs", "fractions"),
    *("gettext", "gzip", "hashlib", "http", "importlib.metadata", "importlib.readers"),
    *("importlib.resources", "locale", "logging", "lzma", "multiprocessing", "numbers"),
    *("pdb", "pickle", "pkgutil", "plistlib", "pprint", "py_compile", "pydoc"),
    *("random", "shlex", "shutil", "socket", "ssl", "statistics", "subprocess", "tarfile"),
    *("tempfile", "test", "threading", "tracemalloc", "unittest", "urllib.request", "xml"),
    *("zipfile", "_py_abc", "_threading_local"),
)
"""What library modules import for occasions that stage-1 does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonFiles:
    """The files, by their paths without a leading slash, and the interpreter's path among them."""

    interpreter: str
    files: dict[str, File]

    @property
    def programs(self) -> tuple[str, ...]:
        """What is machine code and needs libraries."""
        shared = (name for name in self.files if name.endswith(".so"))
        return (self.interpreter, *shared)


def collect_python(system: Path) -> PythonFiles:
    """Collect an interpreter and what stage-1 imports.

    Args:
        system: the root directory of a Debian system, or of one's unpacked packages.

    Raises:
        RepoToolsError: there is no Python 3.11 or newer in it.
    """
    version = _newest_version(system)
    interpreter, library = f"usr/bin/python{version}", f"usr/lib/python{version}"
    files = {interpreter: _executable(system / interpreter)}
    for name, path in _modules(system / library):
        target, data = _compiled(name, path, version)
        files[f"{library}/{target}"] = File(data=data)
    return PythonFiles(interpreter=interpreter, files=files)


def _executable(path: Path) -> File:
    return File(data=path.read_bytes(), is_executable=True)


def _newest_version(system: Path) -> str:
    found = [
        int(match[1])
        for path in (system / "usr/bin").glob("python3.*")
        if (match := _PROGRAM.fullmatch(path.name))
    ]
    if not found or max(found) < 11:
        raise RepoToolsError(
            f"no Python 3.11 or newer in {system}/usr/bin: give a system with Debian's "
            "python3-minimal and libpython3-stdlib"
        )
    return f"3.{max(found)}"


def _modules(library: Path) -> Iterator[tuple[str, Path]]:
    """Yield every module that stage-1 may import: where it goes, and where it is."""
    packages = Path(signpost.__file__).parent.parent
    roots = (library, library / "lib-dynload", packages)
    for name in sorted(_imported(roots) - set(_NEVER)):
        relative = name.replace(".", "/")
        base = packages if name.partition(".")[0] == "signpost" else library
        for candidate in (f"{relative}.py", f"{relative}/__init__.py"):
            if (base / candidate).is_file():
                yield candidate, base / candidate
        # Which modules are part of the interpreter itself differs from build to build, so one that
        # this host finds nowhere, or within its own interpreter, may be a file over there.
        for extension in (library / "lib-dynload").glob(f"{name}.cpython-*.so"):
            yield f"lib-dynload/{extension.name}", extension


def _imported(roots: tuple[Path, ...]) -> set[str]:
    finder = ModuleFinder(path=[str(root) for root in roots], excludes=list(_NEVER))
    for name in (_ENTRY, *_ALWAYS):
        finder.import_hook(name, fromlist=["*"] if name == _ENTRY else None)
    return {*finder.modules, *finder.badmodules}


def _compiled(name: str, path: Path, version: str) -> tuple[str, bytes]:
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    if path.suffix != ".py" or version != this:
        return name, path.read_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "module.pyc")
        py_compile.compile(
            str(path),
            cfile=str(target),
            dfile=name,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        return f"{name}c", target.read_bytes()
