"""`gee gc`: what takes disk and is of no more use."""
