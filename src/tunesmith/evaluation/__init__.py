"""What a trained net is worth: predictions, metrics, intervals, baselines."""
