"""Where rows come from, what they hold, which of them train, and how they become batches."""
