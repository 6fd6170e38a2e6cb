"""What the guests are made of: Debian's Python and busybox, and this project as it is installed.

Decides what is in a guest's root and in the initrd of its sets. The commands are the installed
ones: the entry points, modules and dependencies of this virtual environment, copied.
"""

import compileall
import importlib.metadata
import py_compile
import re
import shutil
from pathlib import Path

from repo_tools.stage1.cpio import File, archive, compress
from repo_tools.stage1.kernel_modules import collect_modules
from repo_tools.stage1.libraries import collect_libraries
from tests.boot.place import GUEST, PROJECT, kernel_modules

_GUEST_FILES = Path(__file__).parent / "guest"
_PACKAGES = Path("usr/lib/python3/dist-packages")
_LIBRARIES = (
    *(
        "libc.so*",
        "libm.so*",
        "libz.so*",
        "libexpat.so*",
        "libffi.so*",
        "libgcc_s.so*",
        "ld-linux*",
    ),
    *(
        "libssl.so*",
        "libcrypto.so*",
        "libbz2.so*",
        "liblzma.so*",
        "libuuid.so*",
        "liblz4.so*",
        "libzstd.so*",
    ),
    *(
        "libresolv.so*",
        "libdl.so*",
        "libpthread.so*",
        "librt.so*",
        "libutil.so*",
        "libnss_files*",
        "libnss_dns*",
    ),
)
_NOT_ON_MACHINES = frozenset({"pyparted"})
"""Needed by repo-tools alone."""
_COMMANDS = {"updog": "updog.cli", "signpost": "signpost.cli"}


def build_busybox_root(tree: Path) -> None:
    """Write the root of a guest whose first process is a short script."""
    _build_common_root(tree)
    _copy_guest_file(tree, "init", "sbin/init")
    _compile(tree)


def build_systemd_root(tree: Path, units: Path) -> None:
    """Write the root of a guest that runs systemd.

    Args:
        tree: a new directory.
        units: a directory of unit files to be installed and enabled beside the guest's own.
    """
    _build_common_root(tree)
    for name in ("usr/lib/systemd", "usr/lib/x86_64-linux-gnu/systemd"):
        shutil.copytree(GUEST / name, tree / name, symlinks=True)
    for library in (GUEST / "usr/lib/x86_64-linux-gnu").glob("*.so*"):
        if library.is_file():
            shutil.copy2(library, tree / "usr/lib/x86_64-linux-gnu")
    programs = (GUEST / "usr/bin").glob("systemd-*")
    for program in (*programs, *(GUEST / "usr/bin" / name for name in ("systemctl", "journalctl"))):
        shutil.copy2(program, tree / "usr/bin")
    # No udev, whose look at every device takes an emulated processor long, nor a login on the
    # console, which would wait for it.
    (tree / "usr/lib/systemd/system-generators/systemd-getty-generator").unlink()
    for unit in (tree / "usr/lib/systemd/system").rglob("*udev*"):
        unit.unlink()
    (tree / "usr/sbin/init").symlink_to("/usr/lib/systemd/systemd")
    for applet in ("reboot", "poweroff"):
        (tree / "usr/bin" / applet).unlink()
        (tree / "usr/bin" / applet).symlink_to("systemctl")
    _write(tree / "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", mode=0o644)
    _write(tree / "etc/group", b"root:x:0:\ntty:x:5:\nsystemd-journal:x:101:\n", mode=0o644)
    # A machine without one would ask for its name and time zone on the console.
    _write(tree / "etc/machine-id", b"0123456789abcdef0123456789abcdef\n", mode=0o444)
    for directory in (_GUEST_FILES / "units", units):
        _install_units(tree, directory)
    (tree / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
    (tree / "etc/systemd/system/default.target").symlink_to(
        "/usr/lib/systemd/system/multi-user.target"
    )
    _compile(tree)


_DROP_INS = {"sysctl.d": "usr/lib/sysctl.d", "system.conf.d": "usr/lib/systemd/system.conf.d"}


def _install_units(tree: Path, directory: Path) -> None:
    """Install what a directory of units holds: units, which are enabled, and drop-ins."""
    for path in sorted(directory.iterdir()):
        if path.is_dir():
            target = _DROP_INS.get(path.name, f"usr/lib/systemd/system/{path.name}")
            shutil.copytree(path, tree / target, dirs_exist_ok=True)
        else:
            _install_unit(tree, path)


def _install_unit(tree: Path, unit: Path) -> None:
    """Install and enable a unit, as `systemctl --root` would."""
    _write(tree / "usr/lib/systemd/system" / unit.name, unit.read_bytes(), mode=0o644)
    for kind, targets in re.findall(r"^(Wanted|Required)By=(.*)$", unit.read_text(), re.MULTILINE):
        for target in targets.split():
            suffix = {"Wanted": "wants", "Required": "requires"}[kind]
            directory = tree / "etc/systemd/system" / f"{target}.{suffix}"
            directory.mkdir(parents=True, exist_ok=True)
            (directory / unit.name).unlink(missing_ok=True)
            (directory / unit.name).symlink_to(f"/usr/lib/systemd/system/{unit.name}")


def _build_common_root(tree: Path) -> None:
    """Write what all guests have; what tells versions apart is not in it."""
    python = next((GUEST / "usr/bin").glob("python3.*")).name
    _copy_python(tree, python)
    for name in sorted(_needed_distributions()):
        _copy_distribution(name, tree / _PACKAGES)
    for package in ("updog", "signpost"):
        shutil.copytree(
            PROJECT / package,
            tree / _PACKAGES / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for command, module in _COMMANDS.items():
        text = f"#!/usr/bin/{python} -I\nfrom {module} import main\nmain()\n"
        _write(tree / "usr/bin" / command, text.encode(), mode=0o755)
    _copy_busybox(tree)
    for name in ("task", "announce", "network"):
        _copy_guest_file(tree, name, f"usr/lib/boot-test/{name}")
    # Where a machine looks for updates is told to it by the test, after its image was built.
    (tree / "etc").mkdir()
    (tree / "etc/updog.toml").symlink_to("/var/etc/updog.toml")
    for name in ("dev", "proc", "sys", "run", "tmp", "var", "root", "etc/boot-test"):
        (tree / name).mkdir(parents=True, exist_ok=True)


def _copy_guest_file(tree: Path, name: str, target: str) -> None:
    _write(tree / target, (_GUEST_FILES / name).read_bytes(), mode=0o755)


def _compile(tree: Path) -> None:
    """Compile all modules: the times of files in an image are not those of today."""
    compileall.compile_dir(
        tree / "usr/lib",
        quiet=2,
        stripdir=tree,
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def build_set_initrd() -> bytes:
    """Return the initrd that opens the root of a set."""
    drivers = collect_modules(
        kernel_modules(), ("virtio_blk", "virtio_pci", "virtio_net", "dm_verity"), optional=()
    )
    programs = [GUEST / "usr/sbin/dmsetup", GUEST / "usr/sbin/blkid"]
    files = {
        "init": _program(_GUEST_FILES / "initrd-init"),
        "bin/busybox": _program(GUEST / "usr/bin/busybox"),
        **{f"usr/sbin/{path.name}": _program(path) for path in programs},
        **collect_libraries(GUEST, programs),
        **{
            f"modules/{number:03}-{name}.ko": File(data=data)
            for number, (name, data) in enumerate(drivers.items())
        },
    }
    return compress(archive(files))


def _program(path: Path) -> File:
    return File(data=path.read_bytes(), is_executable=True)


def _copy_python(tree: Path, python: str) -> None:
    (tree / "usr/bin").mkdir(parents=True)
    shutil.copy2(GUEST / "usr/bin" / python, tree / "usr/bin")
    shutil.copytree(
        GUEST / "usr/lib" / python,
        tree / "usr/lib" / python,
        ignore=shutil.ignore_patterns(
            "__pycache__", "pydoc_data", "lib2to3", "unittest", "config-*"
        ),
    )
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    for pattern in _LIBRARIES:
        for path in (GUEST / "usr/lib/x86_64-linux-gnu").glob(pattern):
            if path.is_file():
                shutil.copy2(path, libraries)
    (tree / "usr/lib64").mkdir()
    shutil.copy2(GUEST / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", tree / "usr/lib64")
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / "usr" / name).mkdir(exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")


def _copy_busybox(tree: Path) -> None:
    shutil.copy2(GUEST / "usr/bin/busybox", tree / "usr/bin")
    for applet in (
        *("sh", "mount", "grep", "ip", "sed", "cat", "cut", "sleep", "touch", "sync", "tr", "kill"),
        *("reboot", "poweroff", "ls", "dd", "dmesg", "env", "true", "false"),
    ):
        (tree / "usr/bin" / applet).symlink_to("busybox")


def _needed_distributions() -> set[str]:
    """Return the names of this project and of everything that it needs at run time here."""
    found: set[str] = set()
    waiting = ["ab-updog"]
    while waiting:
        name = _normal(waiting.pop())
        if name in found or name in _NOT_ON_MACHINES:
            continue
        try:
            requirements = importlib.metadata.distribution(name).requires or []
        except importlib.metadata.PackageNotFoundError:  # for another Python or system
            continue
        found.add(name)
        waiting += [_name(one) for one in requirements if _is_wanted(one)]
    return found


def _is_wanted(requirement: str) -> bool:
    return "extra ==" not in requirement or 'extra == "crypto"' in requirement.replace("'", '"')


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return found[0]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _copy_distribution(name: str, packages: Path) -> None:
    for file in importlib.metadata.distribution(name).files or []:
        source = Path(str(file.locate()))
        if file.parts[0] == ".." or "__pycache__" in file.parts or file.suffix == ".pth":
            continue
        target = packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _write(path: Path, data: bytes, *, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
