"""`report.html`: a run as one page that needs no network, with its table, plots and a browser of every example."""
