"""Samples: how text is drawn as records, and the timeline's text and clips held against the model that is trained."""
