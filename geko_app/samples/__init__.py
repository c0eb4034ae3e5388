"""The samples of a run as the page reads them: store, exclusions, reasons. Knows no page."""
