"""One library per file: each `load` turns a name into a Pretrained."""
