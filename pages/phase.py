"""Phase: how ordered the phases are, layer by layer and head by head, at any measured step and over the run."""

import streamlit as st

from pages import _families, _parts, _phaseviews

lab = _parts.lab()
info = _parts.open_run(lab, "Phase")
if info is not None and _families.has_text(info, "phases"):
    if info.kind == "transformer":
        st.info(
            "A transformer has no phases. See who reads whom under *Interference*, and its predictions under *Tokens*."
        )
        st.page_link("pages/interference.py", label="Open Interference", icon=":material/grid_on:")
        st.page_link("pages/tokens.py", label="Open Tokens", icon=":material/bar_chart:")
    else:
        _phaseviews.page(lab, info)
