"""What is tuned: a pretrained body with its stages, and new heads on top."""
