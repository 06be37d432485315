"""Languages beside English: which one a text is in, terms of scripts without spaces, and what words mean in English."""
