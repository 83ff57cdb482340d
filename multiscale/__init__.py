"""A study from a case file to a report: read, run, store and show."""
