"""The picture of docs/performance.md: how long each program takes, a panel a compression."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot


def draw(panels: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draw bars of seconds; the program of the first name stands out."""
    mpl.rcParams.update({"svg.hashsalt": "install", "font.size": 9, "font.family": "sans-serif"})
    figure, axes = pyplot.subplots(
        len(panels), 1, sharex=True, figsize=(7.2, 1.5 * len(panels) + 0.6), squeeze=False
    )
    for axis, (title, seconds) in zip(axes[:, 0], panels.items(), strict=True):
        names = list(seconds)
        colours = ["#1f6f8b"] + ["#b8c4cc"] * (len(names) - 1)
        bars = axis.barh(names, [seconds[name] for name in names], color=colours)
        axis.bar_label(bars, fmt="%.2f s", padding=3)
        axis.invert_yaxis()
        axis.set_title(f"1 GiB, {title}", loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.12)
    axes[-1, 0].set_xlabel("wall seconds, medians; less is better")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
