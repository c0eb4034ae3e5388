"""The page as a Hugging Face Space: its owner starts and stops runs, everybody else watches. Knows no layout."""
