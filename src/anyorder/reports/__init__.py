"""Reports of runs: tables, plots, contact sheets and self-contained HTML pages.

Names are imported from the modules, so that a page about scaling laws does not load what a page about runs needs.
"""
