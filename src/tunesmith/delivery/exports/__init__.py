"""Folders that other libraries load: one library a file, one public `write` each."""
