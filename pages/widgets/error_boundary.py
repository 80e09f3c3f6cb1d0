"""The edge of a page: what cannot be read of one run is said in words, and the rest of the page stays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

import streamlit as st

from pages.session.markdown_escape import escape_markdown
from qcore.lab import LabError, StoreBusyError

P = ParamSpec("P")


@contextmanager
def show_errors() -> Iterator[None]:
    """Show a refusal of the lab that nobody has caught within: a damaged part of a run, or one that is locked."""
    try:
        yield
    except StoreBusyError as error:
        st.warning(escape_markdown(str(error)), icon=":material/lock:")
    except LabError as error:
        st.error(
            f"**This cannot be shown.** {escape_markdown(str(error))}\n\nThe other runs are not affected.",
            icon=":material/broken_image:",
        )


def with_errors_shown(draw: Callable[P, None]) -> Callable[P, None]:
    """A part of a page that runs by itself, such as a fragment, within the same edge."""

    @functools.wraps(draw)
    def draw_with_errors(*arguments: P.args, **settings: P.kwargs) -> None:
        with show_errors():
            draw(*arguments, **settings)

    return draw_with_errors
