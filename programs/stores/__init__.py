"""Profile stores on the command line: importing histories, and forgetting users everywhere."""
