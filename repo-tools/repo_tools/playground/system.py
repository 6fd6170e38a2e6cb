"""The small system that playground releases consist of: real files, real health checks.

Decides what is in a release's root and boot tree, the same for the same version and Python. A bad
release is bad for a reason of its own: it lacks a network route, and its health check finds out.
"""

import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from semver import Version

VARIANT: Final = "playground"
HEALTH_CHECKS: Final = Path("usr/lib/signpost/health.d")
HEALTH_DIRECTORIES: Final = (Path("etc/signpost/health.d"), HEALTH_CHECKS)
OS_RELEASE: Final = Path("etc/os-release")
MADE_AT: Final = 1_767_225_600
"""The time of every file in an image, 2026-01-01 in UTC: images must not depend on the day."""

_ROUTES = Path("etc/network/routes")
_CHECKSUMS = Path("usr/share/playground/sha256sums")
_PYTHON = Path("usr/lib/python")
_LEFT_OUT = frozenset(
    (
        *("__pycache__", "dist-packages", "site-packages"),
        *("ensurepip", "idlelib", "lib2to3", "test", "tests", "tkinter"),
    )
)
_MODULES = (".py", ".so")
_MOST_SYSTEM_BYTES = 20 << 20
_REBUILT_SHARE = 8
"""One module in so many differs from release to release, as when a system is rebuilt."""

# What stands before /usr in the path of a check is where the root is mounted: nothing on a real
# machine, a directory of the playground here.
_CHECKS: Final = {
    "10-os-release.sh": """\
#!/bin/sh
# Whoever asks this system what it is must get an answer.
. "${0%/usr/lib/signpost/*}/etc/os-release"
[ -n "$VERSION_ID" ] || { echo "etc/os-release has no VERSION_ID"; exit 1; }
echo "$NAME $VERSION_ID"
""",
    "20-files.sh": f"""\
#!/bin/sh
# Every file of the system must be the one that was built.
cd "${{0%/usr/lib/signpost/*}}/" || exit 1
sha256sum --check --quiet {_CHECKSUMS} || exit 1
echo "$(wc -l < {_CHECKSUMS}) files are as they were built"
""",
    "40-network.sh": f"""\
#!/bin/sh
# Without a way to its gateway a machine cannot be reached, nor fetch the update that repairs it.
gateway=10.0.0.1
routes=${{0%/usr/lib/signpost/*}}/{_ROUTES}
grep -qs "via $gateway" "$routes" || {{ echo "no route to $gateway"; exit 1; }}
echo "there is a route to $gateway"
""",
}

_BOOT_README = """\
The BOOT file system of a playground release.

cmdline holds the kernel command line. Its dm-mod.create argument vouches for the root image by the
root digest of its dm-verity tree; %U stands for the GUID of the BOOT partition itself.
A kernel would lie here too; this small system has none, its boot is simulated.
"""


def write_root_tree(tree: Path, version: Version, *, healthy: bool) -> None:
    """Write the root file system of a release into a new directory."""
    tree.mkdir(parents=True)
    tree.chmod(0o755)
    for name, content in _own_files(version, healthy=healthy):
        _write(tree / name, content.encode(), mode=0o755 if name.suffix == ".sh" else 0o644)
    for name, data in _python_files(version):
        _write(tree / name, data)
    _write(tree / _CHECKSUMS, "".join(_checksum_lines(tree)).encode())


def write_boot_tree(tree: Path) -> None:
    """Write the BOOT file system of a release into a new directory."""
    _write(tree / "README", _BOOT_README.encode())


def _own_files(version: Version, *, healthy: bool) -> Iterator[tuple[Path, str]]:
    yield OS_RELEASE, _os_release(version)
    yield _ROUTES, "default via 10.0.0.1 dev eth0\n" if healthy else "# no routes yet\n"
    for name, script in _CHECKS.items():
        yield HEALTH_CHECKS / name, script


def _os_release(version: Version) -> str:
    return (
        f'NAME="Playground"\nID=playground\nVARIANT_ID={VARIANT}\nVERSION_ID={version}\n'
        f'PRETTY_NAME="Playground {version}"\n'
    )


def _python_files(version: Version) -> Iterator[tuple[Path, bytes]]:
    """Yield the running Python's library: some MiB of files as systems have them."""
    library = Path(sysconfig.get_path("stdlib"))
    total = 0
    for path in _library_files(library):
        data = path.read_bytes()
        total += len(data)
        if total > _MOST_SYSTEM_BYTES:
            return
        name = path.relative_to(library)
        yield _PYTHON / name, data + _rebuilt_mark(name, version)


def _library_files(library: Path) -> Iterator[Path]:
    """Yield modules in a fixed order, without descending into what is left out."""
    for directory, subdirectories, names in os.walk(library):
        subdirectories[:] = sorted(set(subdirectories) - _LEFT_OUT)
        yield from (Path(directory, name) for name in sorted(names) if name.endswith(_MODULES))


def _rebuilt_mark(name: Path, version: Version) -> bytes:
    digest = hashlib.sha256(f"{version} {name}".encode()).digest()
    is_rebuilt = name.suffix == ".py" and digest[0] % _REBUILT_SHARE == 0
    return f"\n# rebuilt for {version}\n".encode() if is_rebuilt else b""


def _checksum_lines(tree: Path) -> Iterator[str]:
    """Yield the lines that `sha256sum --check` reads."""
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            yield f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n"


def _write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
