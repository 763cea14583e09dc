"""Scaling laws of repeated data: fits with intervals, critical compute."""
