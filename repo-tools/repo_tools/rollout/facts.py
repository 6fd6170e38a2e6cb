"""What a play gives as plain values, for `--json`."""

from collections.abc import Sequence

from repo_tools.rollout.curve import Curve
from repo_tools.rollout.fleet import Fleet
from repo_tools.rollout.schedule import find_rush


def describe(fleet: Fleet, curves: Sequence[Curve], *, seed: int) -> dict[str, object]:
    """Return a fleet and its curves; times are in seconds after the start, sizes in bytes."""
    return {
        "hosts": fleet.hosts,
        "check_interval_seconds": int(fleet.check_interval.total_seconds()),
        "check_delay_seconds": int(fleet.check_delay.total_seconds()),
        "offline_share": fleet.offline_share,
        "outage_seconds": int(fleet.outage.total_seconds()),
        "seed": seed,
        "step_seconds": curves[0].axis.step_seconds,
        "rollouts": [_describe_curve(curve) for curve in curves],
    }


def _describe_curve(curve: Curve) -> dict[str, object]:
    rush = find_rush(curve.schedule.readiness())
    return {
        "name": curve.schedule.name,
        "update_bytes": curve.schedule.traffic.update_bytes,
        "waves": [
            {
                "number": mark.number,
                "starts_seconds": mark.starts_seconds,
                "reaches_share": mark.share,
            }
            for mark in curve.schedule.marks()
        ],
        "largest_rush": {"share": rush.share, "starts_seconds": rush.starts_seconds},
        "peak_requests": _describe_peak(curve.peak_requests()),
        "peak_bytes": _describe_peak(curve.peak_bytes()),
        "let_in": curve.let_in,
        "updated": curve.updated,
        "requests_per_second": curve.requests_per_second,
        "bytes_per_second": curve.bytes_per_second,
    }


def _describe_peak(peak: tuple[int, float]) -> dict[str, float]:
    starts, rate = peak
    return {"starts_seconds": starts, "per_second": rate}
