"""Data migrations between two versions: which ones are needed, in which order.

Decides the chain from the manifest and refuses a gap in it. Neither keeps nor runs them.
"""

from collections.abc import Mapping

from semver import Version

from updog.errors import UpdogError
from updog.manifest import Manifest


def find_chain(manifest: Manifest, *, running: Version, goal: Version) -> tuple[str, ...]:
    """Return the migrations that lead from one version to another, in the order of running.

    From the lower to the higher version, each step is the longest one that starts where the last
    one ended; a downgrade runs the same list backwards. A manifest without any steps says that its
    publisher uses no migrations.

    Raises:
        UpdogError: there is no chain of steps to the goal.
    """
    lower, higher = sorted((running, goal))
    steps = _steps_by_start(manifest)
    names: list[str] = []
    at = lower
    while steps and at < higher:
        reachable = [step for step in steps.get(at, ()) if step[0] <= higher]
        if not reachable:
            raise UpdogError(
                f"the manifest has no migrations from {at} on the way from {running} to {goal}; "
                "nothing was written, the publisher must add that step"
            )
        at, more = max(reachable, key=lambda step: step[0])
        names += more
    return tuple(names if running <= goal else reversed(names))


def _steps_by_start(manifest: Manifest) -> Mapping[Version, list[tuple[Version, tuple[str, ...]]]]:
    """Return, for each version that steps lead from, where each leads and its migrations."""
    steps: dict[Version, list[tuple[Version, tuple[str, ...]]]] = {}
    for (start, end), names in manifest.migrations.items():
        steps.setdefault(start, []).append((end, names))
    return steps
