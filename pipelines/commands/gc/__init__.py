"""`gee gc`: finds and deletes files that are no longer needed."""
