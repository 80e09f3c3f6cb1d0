"""Benchmark: models side by side: size, operations, speed, memory and quality; and what each mechanism earns."""

import streamlit as st

from pages import _ablationviews, _benchviews, _parts

VIEWS = {"Models": _benchviews.show_models, "Ablation": _ablationviews.show_ablation}

lab = _parts.lab()
_parts.hand_over()
st.title("Benchmark", anchor=False)
view = st.segmented_control(
    "View",
    list(VIEWS),
    key="bench_view",
    default=next(iter(VIEWS)),
    required=True,
    bind="query-params",
    label_visibility="collapsed",
    help="Models: any models and sizes side by side · Ablation: each mechanism against plain cross-entropy.",
)
VIEWS[view](lab)
