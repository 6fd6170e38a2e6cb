"""Builders of updates, manifests and hosts: vary one fact, leave the rest."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from semver import Version

from updog.host import Host
from updog.manifest import Images, Manifest, Update
from updog.waves import Wave

START = datetime(2030, 1, 1, tzinfo=UTC)


def hours(count: float) -> datetime:
    """Return the moment some hours after the start of all rollouts here."""
    return START + timedelta(hours=count)


def waves(starts: Mapping[int, float]) -> tuple[Wave, ...]:
    """Build waves from seed bound -> hours after the start."""
    return tuple(Wave(bound=bound, starts_at=hours(start)) for bound, start in starts.items())


def an_update(
    version: str = "1.1.0",
    *,
    variant: str = "aws-k8s-1.30",
    arch: str = "x86_64",
    max_version: str = "9.0.0",
    starts: Mapping[int, float] | None = None,
) -> Update:
    """Build an update that was not withdrawn; waves as in `waves`."""
    return Update(
        variant=variant,
        arch=arch,
        version=Version.parse(version),
        max_version=Version.parse(max_version),
        waves=waves(starts or {}),
        images=Images(
            boot=f"{version}-boot.ext4.zst",
            root=f"{version}-root.ext4.zst",
            hash=f"{version}-root.verity.zst",
        ),
    )


def a_manifest(*updates: Update) -> Manifest:
    """Build a manifest without migrations."""
    return Manifest(updates=updates, migrations={})


def a_host(version: str = "1.0.0", *, variant: str = "aws-k8s-1.30", arch: str = "x86_64") -> Host:
    """Build a host."""
    return Host(variant=variant, version=Version.parse(version), arch=arch)
