"""Scaling laws of repeated data: runs, fits with intervals, critical compute, advice. Needs numpy and scipy alone."""
