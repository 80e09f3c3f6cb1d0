"""Flux: tokens of a Quantum Flux run on their discs, whom they resemble, and who is connected with whom."""

import streamlit as st

from pages import _families, _fluxviews, _parts

lab = _parts.lab()
info = _parts.open_run(lab, "Flux")
if info is not None and _families.has_text(info, "discs"):
    if info.kind == "flux_lm":
        _fluxviews.page(lab, info)
    else:
        st.info(
            "Only Quantum Flux models (`flux_lm`) have tokens on discs. See who reads whom in this run under "
            "*Interference*, or start one in the control room from a preset that begins with *Flux*."
        )
        st.page_link("pages/interference.py", label="Open Interference", icon=":material/grid_on:")
        st.page_link("pages/control_room.py", label="Open the control room", icon=":material/tune:")
