"""Latency against load: what a caller waits at shares of what the service can do."""

from pathlib import Path

from .measuring import Report


def draw(report: Report, file: Path) -> None:
    """Write a PNG with p50 and p99 of predict and of the no-op view. Raises OSError."""
    # Loaded here, for it takes a second that no other run has to wait.
    from matplotlib.figure import Figure as Page

    page = Page(figsize=(7.0, 4.5), layout="constrained")
    axes = page.add_subplot()
    for name, colour in (("predict", "#4338ca"), ("noop", "#9ca3af")):
        points = report.plot.get(name, [])
        rates = [rate for _, rate, _, _ in points]
        axes.plot(rates, [p99 for *_, p99 in points], color=colour, marker="o", label=f"{name}, p99")
        p50 = [p50 for _, _, p50, _ in points]
        axes.plot(rates, p50, color=colour, marker="o", linestyle="--", label=f"{name}, p50")
    axes.set(xlabel="requests a second, at a fixed rate", ylabel="latency in ms, from when it was due", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    page.savefig(file, format="png", dpi=120)
