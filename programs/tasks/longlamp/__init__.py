"""The tasks of LongLaMP: personalized abstracts, posts, reviews and e-mails."""
