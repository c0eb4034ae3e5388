"""Runs, samples and jobs -> what a page draws of them. Knows no layout."""
