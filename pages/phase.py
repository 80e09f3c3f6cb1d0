"""Phase: how ordered the phases are, layer by layer and head by head, and what the model's switches do with them."""

import streamlit as st

from pages.session import family_words
from pages.session.lab import open_lab
from pages.session.page_list import FLUX, INTERFERENCE, TOKENS
from pages.views import mechanisms, phase
from pages.widgets import run_heading

lab = open_lab()
info = run_heading.open_run(lab, "Phase")
if info is not None and ("phases" in info.capabilities or family_words.has_text(info, "phases")):
    if not info.capabilities & {"phases", "discs"} and not family_words.has_trainer(info):
        family_words.elsewhere(info, "This run has recorded no phases.")
    elif not info.capabilities & {"phases", "discs"}:
        st.info(
            "This model has no phases. See which tokens attend to which under *Interference*, and its predictions "
            "under *Tokens*."
        )
        INTERFERENCE.link()
        TOKENS.link()
    elif "discs" in info.capabilities:
        st.info(
            "A Quantum Flux model has no waves: its tokens move on discs. See them under *Flux*, which tokens are "
            "connected "
            "under *Interference*, and its predictions under *Tokens*."
        )
        FLUX.link()
        INTERFERENCE.link()
        TOKENS.link()
    else:
        view = mechanisms.pick_view(lab, info)
        if view == mechanisms.PHASES:
            phase.page(lab, info)
        else:
            mechanisms.page(lab, info, view)
