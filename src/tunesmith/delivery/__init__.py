"""What leaves a run: the card and the exports."""
