"""Changes of a network before anything trains: one edit() function a file."""
