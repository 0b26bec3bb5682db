"""Figures inside the page: PNG as text, with a caption."""

import base64
import io
import warnings
from collections.abc import Callable

from matplotlib.figure import Figure

from neurofb.plot.style import context
from neurofb.report.markup import Html, tag, text

_DPI = 150  # pixels per inch in the file
_SCREEN = 100  # pixels per inch on the page


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
    data = base64.b64encode(buffer.getvalue()).decode()
    width, height = (f"{inches * _SCREEN:.0f}" for inches in figure.get_size_inches())
    image = Html(
        f'<img src="data:image/png;base64,{data}" alt="{text(description)}" '
        f'width="{width}" height="{height}">'
    )
    style = f"width: {int(width) + 22}px"  # the image, its frame and border
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
