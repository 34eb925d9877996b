"""Every number we quote, as a script: ``make bench``."""
