"""Reports as one HTML file with everything in it, no script and nothing loaded from elsewhere; plots as SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

TICKS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500, 1000, 2000)


def write_page(path: Path, title: str, body: str) -> None:
    """Writes the page; the folder must exist."""
    page = Template(files("host").joinpath("page.html").read_text())
    path.write_text(page.substitute(title=escape(title), body=body))


def draw_svg(name: str, draw: Callable[[Any], None], size: tuple[float, float] = (6.4, 5.2)) -> str:
    """A plot as SVG text; its ids begin with ``name`` so that several plots live in one page."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure, axis = pyplot.subplots(figsize=size)
        draw(axis)
        figure.tight_layout()
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        pyplot.close(figure)
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace('id="', f'id="{name}-').replace('"#', f'"#{name}-').replace(
        "url(#", f"url(#{name}-"
    )  # fmt: skip


def draw_png(path: Path, draw: Callable[[Any], None], size: tuple[float, float] = (6.4, 4.6)) -> None:
    """The same plot as a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=size)
    draw(axis)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def plain_ticks(side: Any, lowest: float, highest: float) -> None:
    """Plain numbers on a logarithmic axis."""
    from matplotlib.ticker import NullLocator

    ticks = [tick for tick in TICKS if lowest < tick < highest]
    side.set_minor_locator(NullLocator())
    side.set_ticks(ticks, [f"{tick:g}" for tick in ticks])


def open_frame(axis: Any) -> None:
    for spine in ("top", "right"):
        axis.spines[spine].set_visible(False)


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is a heading of its row; cells are escaped."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        f"<tr><th scope=row>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
