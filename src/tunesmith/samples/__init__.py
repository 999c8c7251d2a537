"""Embedded data of the demos, written for it."""
