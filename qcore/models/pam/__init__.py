"""Phase-associative memory."""
