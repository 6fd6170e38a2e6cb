"""Stage-1 as an initrd.

Decides what is in it: an interpreter, the modules that stage-1 imports, the kernel modules that
find disks, and the two-line program that the kernel starts. The same inputs give the same bytes.
Needs no root. Refuses systems and kernels that lack a part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repo_tools.stage1.cpio import File, archive, compress
from repo_tools.stage1.kernel_modules import collect_modules
from repo_tools.stage1.libraries import collect_libraries
from repo_tools.stage1.python_files import collect_python
from signpost.stage1.init import MODULES

COMMAND_LINE: Final = "console=tty0 console=ttyS0 quiet panic=30 gpt"
"""What a loader gives the stage-1 kernel unless told otherwise: `gpt` lets Linux see the partitions
also where only the backup table is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Initrd:
    """A compressed initramfs, and what it holds."""

    data: bytes
    unpacked_bytes: int
    file_count: int
    modules: tuple[str, ...]


def build_initrd(*, system: Path, modules: Path, extra_modules: Sequence[str] = ()) -> Initrd:
    """Build the initramfs of stage-1.

    Args:
        system: the root directory of a Debian system, or of one's unpacked packages, that Python
            and its libraries are taken from.
        modules: `lib/modules/VERSION` of the kernel that stage-1 will run on.
        extra_modules: kernel modules beside the usual ones for disks.

    Raises:
        RepoToolsError: a part is missing.
    """
    python = collect_python(system)
    drivers = collect_modules(modules, extra_modules)
    files = {
        "init": File(data=_program(python.interpreter), is_executable=True),
        **python.files,
        **collect_libraries(system, (system / name for name in python.programs)),
        **_numbered(drivers),
    }
    plain = archive(files)
    return Initrd(
        data=compress(plain),
        unpacked_bytes=len(plain),
        file_count=len(files),
        modules=tuple(drivers),
    )


def _program(interpreter: str) -> bytes:
    # Isolated from the environment, which a boot loader can set, and without the site module.
    return f"#!/{interpreter} -IS\nfrom signpost.stage1.init import main\nmain()\n".encode()


def _numbered(drivers: dict[str, bytes]) -> dict[str, File]:
    """Place kernel modules so that their names sort in loading order."""
    directory = MODULES.lstrip("/")
    return {
        f"{directory}/{number:03}-{name}.ko": File(data=data)
        for number, (name, data) in enumerate(drivers.items())
    }
