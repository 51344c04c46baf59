"""What a person sees: command line, console, tables, plots."""
