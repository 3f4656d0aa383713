"""Tests mirror the package; the docstring of a test is the promise it keeps."""
