"""The loop and all that it needs: state, optimizers, schedules, checkpoints, the machine."""
