"""What the pages of the report are put together from."""

from collections.abc import Iterable, Sequence
from html import escape

from async_tiercache_integrations.cli.demo._charts import tag


def tile(figure: str, what: str, more: str) -> str:
    """Return a figure, large, with what it counts."""
    return tag(
        "div",
        tag("p", escape(figure), class_="figure"),
        tag("p", escape(what), class_="what"),
        tag("p", escape(more), class_="muted"),
        class_="tile",
    )


def card(title: str, about: str, chart: str, *, raw: bool = False) -> str:
    """Return a chart under its title.

    Args:
        title: The title.
        about: What a reader should know to read it.
        chart: The chart.
        raw: Whether `about` is markup.
    """
    words = about if raw else escape(about)
    return tag(
        "figure",
        tag("figcaption", tag("h2", escape(title)), tag("p", words, class_="muted")),
        chart,
    )


def keys(*items: tuple[str, str]) -> str:
    """Return what colours mean: (the end of a class, words) for each."""
    return " ".join(
        tag("span", tag("span", "", class_=f"key key-{name}"), escape(words), class_="item")
        for name, words in items
    )


def table(title: str, columns: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that can be scrolled; the first cell of a row is its name."""
    head = tag("tr", *(tag("th", escape(name), scope="col") for name in columns))
    body = (
        tag(
            "tr",
            tag("th", escape(name), scope="row"),
            *(tag("td", escape(value)) for value in values),
        )
        for name, *values in rows
    )
    whole = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=title)
