"""What is wrong with the rows of a dataset: label errors, duplicates, conflicts, cut-off answers, personal data.

Reads texts only; knows no model and no run. NumPy and scikit-learn.
"""
