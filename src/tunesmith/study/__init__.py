"""Studies: what is learnt by running the pipeline many times."""
