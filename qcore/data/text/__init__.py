"""Text: where it is read from, how it is split into documents, tokens and batches, and what there is to beat."""
