"""What trains, how fast and when: one plan() function a file."""
