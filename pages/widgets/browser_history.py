"""The browser's Back and Forward: what a page shows is taken from the address that they lead to.

A page's address names the run, the view and the step; the session holds them, too, and is believed, because the browser
tells its address with every press, and tells an old one while a new one is on its way. Only when a person has gone back
or forward is the address believed. Which addresses become entries of the history says the browser's part,
`pages/assets/browser_history.js`.
"""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

_NAMED = ("run", "view", "step", "bench", "ablation")


def forget_on_navigation() -> None:
    """Forget what the session holds of what the address names, when the browser went back or forward. Call it before
    anything of the page is drawn.
    """
    context = get_script_run_ctx(suppress_warning=True)
    if context is None or not context.is_history_navigation:
        return
    for name in _NAMED:
        if name in st.query_params:
            st.session_state.pop(name, None)
            st.session_state[f"{name}:nonce"] = st.session_state.get(f"{name}:nonce", 0) + 1
