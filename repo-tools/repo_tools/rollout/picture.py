"""Curves as pictures, PNG or SVG: updated share, requests a second and bytes a second.

Decides how they look. The same curves give the same bytes with the same matplotlib.
"""

import io
from collections.abc import Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, PercentFormatter

from repo_tools.rollout.curve import Curve
from updog.units import SIZES

# Told apart by people who see few colours, and by their lightness in print (Okabe and Ito).
_COLOURS: Final = ("#0072B2", "#D55E00")
_STYLE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "svg.hashsalt": "rollout",  # else the identifiers in the file differ from run to run
}
_INCHES = (9.5, 8.0)
_DOTS_PER_INCH = 130

_UNITS: Final = ((86400, "days"), (3600, "hours"), (60, "minutes"))
_MOST_TICKS = 14
_NARROWEST_LABEL = 0.014
"""Of the width: two numbers of waves that are nearer than this would touch."""


def draw(curves: Sequence[Curve], *, title: str, form: str) -> bytes:
    """Return a picture of one curve or two, as "png" or "svg"."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_INCHES, layout="constrained")
        panels = figure.subplots(3, 1, sharex=True, height_ratios=(5, 3, 3))
        figure.suptitle(title, fontsize="medium")
        _draw_shares(panels[0], curves)
        _draw_requests(panels[1], curves)
        _draw_bytes(panels[2], curves)
        for number, curve in enumerate(curves):
            _mark_waves(panels, curve, number=number)
        _divide_time(panels[2], curves[0].axis.seconds)
        return _saved(figure, form)


def _draw_shares(panel: Axes, curves: Sequence[Curve]) -> None:
    for curve, colour in zip(curves, _COLOURS, strict=False):
        name = curve.schedule.name
        moments = [step * curve.axis.step_seconds for step in range(curve.axis.steps + 1)]
        panel.plot(moments, curve.updated, color=colour, linewidth=2, label=f"{name}: updated")
        panel.plot(
            moments,
            curve.let_in,
            color=colour,
            linewidth=1,
            linestyle="--",
            label=f"{name}: let in by its waves",
        )
    panel.set_ylim(0, 1.02)
    panel.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    panel.set_ylabel("share of the fleet")
    panel.legend(loc="lower right")


def _draw_requests(panel: Axes, curves: Sequence[Curve]) -> None:
    _draw_rates(panel, curves, [curve.requests_per_second for curve in curves])
    panel.set_ylabel("requests a second")


def _draw_bytes(panel: Axes, curves: Sequence[Curve]) -> None:
    unit = _unit_of(max(curve.peak_bytes()[1] for curve in curves))
    scaled = [[each / SIZES[unit] for each in curve.bytes_per_second] for curve in curves]
    _draw_rates(panel, curves, scaled)
    panel.set_ylabel(f"{unit} a second")


def _draw_rates(panel: Axes, curves: Sequence[Curve], rates: Sequence[Sequence[float]]) -> None:
    """Draw rates step by step, filled when they hide nothing."""
    for curve, values, colour in zip(curves, rates, _COLOURS, strict=False):
        edges = [step * curve.axis.step_seconds for step in range(curve.axis.steps + 1)]
        if len(curves) == 1:
            panel.stairs(values, edges, color=colour, fill=True, alpha=0.15)
        panel.stairs(values, edges, color=colour, linewidth=1.3, baseline=None)
    panel.set_ylim(0, 1.08 * max(max(values) for values in rates))


def _unit_of(most: float) -> str:
    """Return the largest unit of which there is at least one."""
    return max((name for name in SIZES if SIZES[name] <= max(most, 1)), key=SIZES.__getitem__)


def _mark_waves(panels: Sequence[Axes], curve: Curve, *, number: int) -> None:
    """Draw a line where each wave begins, numbered above the picture, a row for each schedule."""
    colour, height = _COLOURS[number], 1.02 + 0.06 * number
    last_labelled = float("-inf")
    for mark in curve.schedule.marks():
        at = max(0.0, mark.starts_seconds) / curve.axis.seconds
        for panel in panels:
            panel.axvline(at * curve.axis.seconds, color=colour, linewidth=0.8, linestyle=":")
        if at - last_labelled > _NARROWEST_LABEL:
            _write(panels[0], at, height, str(mark.number), colour)
            last_labelled = at
    panels[0].text(-0.01, height, "wave", color=colour, ha="right", transform=panels[0].transAxes)


def _write(panel: Axes, at: float, height: float, text: str, colour: str) -> None:
    panel.text(at, height, text, color=colour, ha="center", transform=panel.transAxes)


def _divide_time(panel: Axes, seconds: int) -> None:
    """Number the time in the largest unit that gives enough numbers."""
    length, name = next((unit for unit in _UNITS if seconds >= 3 * unit[0]), _UNITS[-1])
    every = next(
        count
        for count in (1, 2, 3, 5, 6, 10, 12, 24, 50, 100, 365, 1000, 10000)
        if seconds <= _MOST_TICKS * count * length
    )
    panel.set_xlim(0, seconds)
    panel.xaxis.set_major_locator(MultipleLocator(every * length))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / length:g}"))
    panel.set_xlabel(f"{name} after the start of the rollout")


def _saved(figure: Figure, form: str) -> bytes:
    file = io.BytesIO()
    undated = {"Date": None} if form == "svg" else None
    figure.savefig(file, format=form, dpi=_DOTS_PER_INCH, metadata=undated)
    return file.getvalue()
