"""What is minimised: one objective() function a file."""
