"""What a prediction means: one TASK record a file."""
