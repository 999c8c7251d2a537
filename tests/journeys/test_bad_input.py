"""Bad input: a clear message and exit code 1, no traceback, and nothing left half-written."""

from __future__ import annotations

import json
import shutil

import pytest

from tests_shared import FAST, write_csv
