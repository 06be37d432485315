"""Fine-tuning: tasks say what is learnt, methods which weights move, a run does the rest. Needs the extra ``train``."""

import logging

# bitsandbytes, which sentence-transformers imports wherever it is there, warns of kernels for other machines.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
