"""The phase language model and the parts that it may be given."""
