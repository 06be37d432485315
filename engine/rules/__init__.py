"""Rules of merchandisers: a file says which queries they are for and what they do to the results."""
