"""Figures inside the page: the SVG files of `plot`, made to follow the page's colours and fonts."""

from __future__ import annotations

import re
from pathlib import Path

from zagreus.errors import InputError
from zagreus.reporting import style

# Colours of the figures by the CSS variable that takes their place; the code itself stays as the
# variable's fallback.
VARIABLES = {
    style.INK: "--ink",
    style.MUTED: "--muted",
    style.RULE: "--rule",
    style.REFERENCE: "--reference",
    **{colour: f"--series-{number}" for number, colour in enumerate(style.SERIES, 1)},
}


def inline_svg(path: Path, label: str) -> str:
    """Return an SVG file as an element of an HTML page.

    Its ids get the file's name as a prefix, so that figures do not refer to one another's; its
    colours become the page's variables; its text takes the page's font; its size becomes the page's
    affair. It is one image to a screen reader, named `label`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such figure, index.json beside it names it") from None
    start = text.find("<svg")
    if start < 0:
        raise InputError(f"{path}: not an SVG file")
    text = text[start:]
    prefix = re.sub(r"[^a-z0-9]+", "-", path.stem.lower())
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable},{colour})")
    text = text.replace(
        "font-family: 'DejaVu Sans', sans-serif", "font-family: var(--sans, sans-serif)"
    )
    # matplotlib's style element would reach out of the figure into the page.
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    # HTML needs no namespace declarations, and a page without them names no other host.
    text = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    width, height = _size(text, path)
    label = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return re.sub(
        r"<svg[^>]*>",
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}" '
        f'style="max-width: {width * 4 / 3:.0f}px">',
        text,
        count=1,
    )


def _size(text: str, path: Path) -> tuple[float, float]:
    match = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    if not match:
        raise InputError(f"{path}: an SVG file without viewBox")
    return float(match[1]), float(match[2])
