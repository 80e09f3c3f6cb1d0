"""The transformer that the others are measured against."""
