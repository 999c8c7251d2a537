"""The report: one HTML file that says what a Run is worth and why; a module a matter, each gives Sections."""
