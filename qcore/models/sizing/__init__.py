"""What a model costs: parameters, operations, memory; matching sizes, and growth."""
