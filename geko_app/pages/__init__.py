"""One file for each page: layout and thin handlers only."""
