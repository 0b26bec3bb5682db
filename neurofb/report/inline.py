"""Figures inside the page: PNG as text, with a caption."""

import base64
import io
import warnings
from collections.abc import Callable

from matplotlib.figure import Figure
from PIL import Image

from neurofb.plot.style import context
from neurofb.report.markup import Html, tag, text

_DPI = 150  # pixels per inch in the file
_LARGE = 300_000  # bytes; a larger image is kept with 256 colours
_SCREEN = 100  # pixels per inch on the page
_WIDEST = 1300  # pixels on the page; wider figures scroll instead of shrinking


def inline_figure(figure: Figure, caption: object, *, description: str) -> Html:
    """Return a figure as an element of the page, the image within.

    Parameters
    ----------
    figure
        What to show.
    caption
        What is seen, under the figure.
    description
        One line for readers who do not see the image.

    Examples
    --------
    >>> inline_figure(Figure(), "nothing", description="an empty figure")[:64]
    '<figure style="width: 662px"><img src="data:image/png;base64,iVB'
    """
    buffer = io.BytesIO()
    with context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, dpi=_DPI, format="png", metadata={"Software": None})
    data = base64.b64encode(_smaller(buffer.getvalue())).decode()
    width, height = (round(inches * _SCREEN) for inches in figure.get_size_inches())
    image: object = Html(
        f'<img src="data:image/png;base64,{data}" alt="{text(description)}" '
        f'width="{width}" height="{height}">'
    )
    if width > _WIDEST:
        image = tag("div", image, class_="scroll wide", tabindex="0")
    style = f"width: {width + 22}px"  # the image, its frame and border
    return tag("figure", image, tag("figcaption", caption), style=style)


def drawn(draw: Callable[[], Figure], caption: object, description: str) -> tuple[Html, str]:
    """Draw a figure, or say why the data do not allow it.

    Returns
    -------
    tuple of Html and str
        The figure and "", or nothing and the reason.

    Examples
    --------
    >>> def refuse() -> Figure:
    ...     raise ValueError("dataset has no variable 'loss'")
    >>> drawn(refuse, "", "losses")
    ('', "dataset has no variable 'loss'")
    """
    try:
        return inline_figure(draw(), caption, description=description), ""
    except (ValueError, KeyError) as error:
        return Html(), " ".join(str(error).split()) or type(error).__name__


def _smaller(png: bytes) -> bytes:
    """Return a large image with a palette of 256 colours, a small one as it is."""
    if len(png) < _LARGE:
        return png
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        palette = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    palette.save(buffer, format="png")
    return min(png, buffer.getvalue(), key=len)
