"""Worker processes: training, preview, inference, downloads; and who starts, follows and stops them."""
