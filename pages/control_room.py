"""Control room: start a run, watch it learn, turn its knobs, and choose among the runs."""

import streamlit as st

from pages import _newrun, _parts, _runs, _share, _watch

VIEWS = ("Watch", "New run", "All runs")

lab = _parts.lab()
info = _parts.selected(lab)
if info is None:
    st.title("Control room", anchor=False)
    st.info("There is no run yet. Choose a preset and press **Start**: the first curves appear within a minute.")
    _parts.flash()
    _share.show_share(lab, None)
    _newrun.new_run(lab)
else:
    _parts.heading("Control room", info)
    view = _parts.view_picker(VIEWS)
    _parts.flash()
    if view == "Watch":
        _parts.trouble(lab, info)
        _watch.watch(lab, info)
    elif view == "New run":
        _newrun.new_run(lab)
    else:
        _runs.runs(lab, info)
