"""Where `make boot-setup` unpacked the emulator and the guest's packages, and whether it did."""

import os
from pathlib import Path

PROJECT = Path(__file__).parents[2]
CACHE = PROJECT / "build" / "boot"
HOST = CACHE / "host"
GUEST = CACHE / "guest"


def why_no_machines() -> str | None:
    """Say what stands in the way of booting here, or None if nothing does."""
    if os.uname().machine != "x86_64":
        return f"the boot test's kernel is for x86_64, this machine is {os.uname().machine}"
    if not (CACHE / "ready").exists():
        return "the emulator is not here: run `make boot-test`, which fetches it"
    return None


def kernel() -> Path:
    """Return the guests' kernel, which is stage-1's too."""
    return next((GUEST / "boot").glob("vmlinuz-*"))


def kernel_modules() -> Path:
    """Return `lib/modules/VERSION` of that kernel."""
    return next((GUEST / "lib" / "modules").iterdir())
