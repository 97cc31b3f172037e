"""Plain HTML for notebooks: escaped, without script."""

from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape


def terms_table(terms: Mapping[str, str | None]) -> str:
    """Return a table of terms and what stands for them; what is None or empty is left out."""
    lines = "\n".join(
        f'<tr><th style="text-align: left">{escape(term)}</th>'
        f'<td style="text-align: left">{escape(text)}</td></tr>'
        for term, text in terms.items()
        if text
    )
    return f"<table>\n{lines}\n</table>"


def counted(words: Iterable[str]) -> str:
    """Return how often each word occurs, the most frequent first: `int8 29, float32 2`."""
    return ", ".join(f"{word} {count}" for word, count in Counter(words).most_common())
