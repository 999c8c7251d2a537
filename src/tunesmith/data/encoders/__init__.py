"""From rows to tensors: one encoder a file."""
