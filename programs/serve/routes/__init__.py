"""The addresses of programs, users and feedback."""
