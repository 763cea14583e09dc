"""Defaults of each verb as YAML, with a comment for every setting; groups of choices come from the code."""
