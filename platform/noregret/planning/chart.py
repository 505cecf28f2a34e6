"""Regret curves as a picture: mean and band, axes with units, a legend."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bandits.statistics import Array

# Okabe & Ito's colours, told apart by colour-blind readers too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_POINTS = 500


def draw(path: Path, curves: Sequence[tuple[str, Array]], title: str) -> None:
    """Write a PNG of cumulative regret: `curves` are (label, regret of shape (runs, horizon)).
    Raises OSError."""
    # Imported here, for it takes half a second, and only this needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for i, (label, regret) in enumerate(curves):
        colour = _COLOURS[i % len(_COLOURS)]
        horizon = regret.shape[1]
        at = np.unique(np.linspace(0, horizon - 1, min(horizon, _POINTS)).astype(np.int64))
        shown = regret[:, at]
        axes.plot(
            at + 1,
            shown.mean(axis=0),
            color=colour,
            label=f"{label}: {regret[:, -1].mean():,.1f} at the end",
            linewidth=1.8,
        )
        if len(regret) > 1:
            low, high = np.quantile(shown, [0.1, 0.9], axis=0)
            axes.fill_between(at + 1, low, high, color=colour, alpha=0.15, linewidth=0)
    runs = len(curves[0][1])
    axes.set_xlabel("pulls")
    axes.set_ylabel("cumulative regret (reward units)")
    axes.set_title(title, loc="left", fontsize=11)
    axes.margins(x=0.0)
    axes.set_ylim(bottom=0.0)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", frameon=False, title=f"mean of {runs:,} runs; band: 10th to 90th percentile")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
