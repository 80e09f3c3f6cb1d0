"""Samples of the timeline, held against the model that is trained: text and clips."""
